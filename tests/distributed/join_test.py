"""When processes join, and what is said when they cannot."""

import contextlib
import importlib.util
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from demjax.distributed import Address, cluster, join
from demjax.distributed import watch as watch_module
from demjax.distributed.watch import WELCOME, _accepted
from tests.distributed.launch import finish, mains
from tests.waiting import HUNG, heard, wait_until

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
    done = subprocess.run(argv, capture_output=True, text=True, timeout=HUNG)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "could not be joined" in done.stderr and "--distributed=off" in done.stderr


@contextlib.contextmanager
def accepting(n):
    """_accepted in a thread: (its address, what it has found when the block ends)."""
    listener, found = socket.create_server(("127.0.0.1", 0)), {}
    thread = threading.Thread(target=lambda: found.update(_accepted(listener, n, "secret")))
    thread.start()
    try:
        yield listener.getsockname(), found
    finally:
        thread.join(HUNG)
        for line in found.values():
            line.close()


def test_strangers_are_turned_away_and_silent_ones_hold_nobody_up(monkeypatch):
    monkeypatch.setattr(watch_module, "CONNECT_SECONDS", HUNG)
    with accepting(1) as (where, found), socket.create_connection(where) as silent:
        with socket.create_connection(where) as stranger:
            stranger.sendall(b"GET / HTTP/1.1".ljust(15))
            assert stranger.recv(1) == b""
        with socket.create_connection(where) as friend:
            friend.sendall(b"secret 00000001")
            assert friend.recv(1) == WELCOME
            assert silent.recv(1) == b""
    assert list(found) == [1]


def test_who_does_not_come_in_time_is_not_watched_and_kills_nobody(monkeypatch, capfd):
    """One of two comes, and lives on without the other; process 0 says whom it cannot watch."""
    monkeypatch.setattr(watch_module, "CONNECT_SECONDS", HUNG)
    clock = iter((0.0, 0.0))  # the end is set, the first is waited for; then it is too late for the second
    monkeypatch.setattr(watch_module, "time", SimpleNamespace(monotonic=lambda: next(clock, HUNG + 1)))
    monkeypatch.setattr(watch_module, "_lines", {})
    monkeypatch.setattr(watch_module, "_listen", lambda *args: None)
    told = queue.Queue()

    def from_first(mine):
        told.put(mine)
        return mine

    first = threading.Thread(target=watch_module.watch, args=(0, 3, from_first, "127.0.0.1:1"))
    first.start()
    host, port, token = told.get(timeout=HUNG).split()
    assert host == "127.0.0.1", "on no other interface than the coordinator's"
    lines = watch_module._greeted(host, port, token, 1)
    first.join(HUNG)
    assert set(watch_module._lines) == {1} and "process 0 cannot watch 2: JAX's heartbeat" in capfd.readouterr().err
    for line in (*lines.values(), *watch_module._lines.values()):
        line.close()


def test_without_an_answer_a_process_is_not_watched(monkeypatch):
    monkeypatch.setattr(watch_module, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes the greeting, says nothing
        host, port = deaf.getsockname()
        assert watch_module._greeted(host, str(port), "secret", 1) == {}
    assert watch_module._greeted(host, str(port), "secret", 1) == {}


def test_a_port_that_is_taken(refused):
    with socket.create_server(("", 0)) as taken, refused("cannot listen there", "another port?"):
        join("on", Address(f"127.0.0.1:{taken.getsockname()[1]}", 2, 0))


@pytest.mark.parametrize("asked", (signal.SIGTERM, signal.SIGINT))
def test_who_waits_for_the_others_can_be_stopped(asked):
    """Python, which has threads once it imports, catches SIGINT; `join` leaves it to the system again."""
    started = mains(2, "--config=configs/synthetic.py:quick", only=(1,))[0]

    def joins():
        return len(os.listdir(f"/proc/{started.pid}/task")) > 1 and not heard(started.pid, signal.SIGINT)

    wait_until(lambda: started.poll() is not None or joins(), "the wait for process 0")
    assert started.poll() is None
    started.send_signal(asked)
    assert finish([started])[0].status == -asked
