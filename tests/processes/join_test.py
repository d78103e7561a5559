"""When processes join, and what is said when they cannot."""

import importlib.util
import socket
import subprocess
import sys
import threading

import pytest

from demjax.processes import Address, cluster, join

SLURM = dict(
    SLURM_JOB_ID="1", SLURM_STEP_NODELIST="n[1-2]", SLURM_NTASKS="8", SLURM_PROCID="0", SLURM_LOCALID="0"
)  # fmt: skip
TPU = dict(TPU_WORKER_ID="0", TPU_WORKER_HOSTNAMES="a,b")
JOB = dict(KUBERNETES_SERVICE_HOST="10.0.0.1", JOB_COMPLETION_INDEX="3")


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, ""),
        (SLURM, "slurm"),
        (SLURM | {"SLURM_NTASKS": "1"}, ""),
        ({k: v for k, v in SLURM.items() if k != "SLURM_STEP_NODELIST"}, ""),  # an allocation, no step: ssh into a node
        (TPU, "tpu"),
        ({"TPU_WORKER_ID": "0"}, ""),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ""),  # a notebook in a pod
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_MCA_orte_hnp_uri": "x"}, "mpi"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, ""),
    ],
)
def test_only_a_whole_environment_is_a_cluster(environment, kind):
    assert cluster(environment) == kind


def test_a_job_of_kubernetes(monkeypatch, refused):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "kubernetes" else find(name))
    assert cluster(JOB) == "kubernetes"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with refused("pip install 'jax[k8s]'"):
        cluster(JOB)


def test_an_mpi_that_jax_does_not_know_is_no_reason_to_train_n_times(refused):
    with refused("4 processes", "--process_id=$OMPI_COMM_WORLD_RANK"):
        cluster({"OMPI_COMM_WORLD_SIZE": "4"})


@pytest.mark.parametrize(
    ("how", "address", "told"),
    [
        ("auto", Address("h:1", 2), "belong together"),
        ("off", Address("h:1", 2, 0), "expected one or the other"),
        ("on", Address("nohost", 2, 0), "expected HOST:PORT"),
        ("on", Address("h:1", 2, 2), "expected 0 to 1"),
        ("on", Address("h:1", 0, 0), "--num_processes=0"),
    ],
)
def test_addresses(refused, how, address, told):
    with refused(told):
        join(how, address)


def test_alone_nothing_is_said():
    assert join("off") == join("auto") == ""


def test_on_without_a_cluster_is_a_mistake():
    """In a process of its own: JAX here has started."""
    argv = [sys.executable, "-m", "demjax.main", "--config=configs/synthetic.py:quick", "--distributed=on"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "could not be joined" in done.stderr and "--distributed=off" in done.stderr


def test_a_stranger_is_turned_away():
    from demjax.processes.watch import _accepted

    listener = socket.create_server(("127.0.0.1", 0))
    found = {}
    thread = threading.Thread(target=lambda: found.update(_accepted(listener, 1, "secret")))
    thread.start()
    for greeting in (b"GET / HTTP/1.1\r\n", b"secret 00000001"):
        with socket.create_connection(listener.getsockname()) as line:
            line.sendall(greeting.ljust(15)[:15])
            if greeting.startswith(b"GET"):
                assert line.recv(1) == b""
    thread.join(10)
    found.pop(1).close()
    assert not found
