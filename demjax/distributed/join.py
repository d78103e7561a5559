"""How processes find each other, and how they part."""

import argparse
import contextlib
import importlib.util
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from jax.experimental import multihost_utils

from demjax.checks import UserError
from demjax.distributed.agree import from_first
from demjax.distributed.watch import farewell, watch

HEARTBEAT_SECONDS = 100  # until JAX takes a machine that says nothing for dead; a process that ends is noticed at once
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
GKE_TPU = ("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES")
INDEXED_JOB = ("KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX")


class Address(NamedTuple):
    """Where the processes meet, how many there are and which this one is; None: JAX finds it in the environment."""

    coordinator: str | None = None
    n_processes: int | None = None
    process: int | None = None


FOUND = Address()


def _keep_stdout() -> None:
    """Gloo logs every connection on standard output, which is for results: from now on only Python writes there."""
    if sys.__stdout__ is None or sys.stdout is not sys.__stdout__:
        return  # redirected by whoever called
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        results, how = os.dup(1), sys.__stdout__
        os.dup2(2, 1)
        sys.stdout = os.fdopen(results, "w", buffering=1, encoding=how.encoding, errors=how.errors)


@contextlib.contextmanager
def _deadly_signals() -> Iterator[None]:
    """While a process waits for the others inside JAX no handler of Python can run; nothing is there to save yet."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_port(address: Address) -> None:
    port = int((address.coordinator or "").rpartition(":")[2])
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        where = f"--coordinator_address={address.coordinator}"
        raise UserError(f"{where}: process 0 cannot listen there ({error.strerror}); another port?") from error


def join(how: str = "auto", address: Address = FOUND) -> str:
    """Joins the other processes; call it before anything touches a device. Returns the line that says how it went.

    Args:
      how: `on`; `off`; `auto`: on where all of `address` is named, or a whole cluster environment is there: a TPU
        slice, a Slurm step or Open MPI of several tasks, an indexed Kubernetes job. Parts of one are no environment.
      address: all of it, or nothing.

    Raises:
      UserError: an address in parts; `on` without a cluster; processes that JAX cannot find each other; nobody came.
        It is never passed over: n processes that each train alone would all write the same results.
    """
    has = [x is not None for x in address]
    if any(has) and not all(has):
        raise UserError("--coordinator_address, --num_processes and --process_id belong together: expected all or none")
    if all(has):
        _check(address)
    if how == "off" and any(has):
        raise UserError("--distributed=off with --coordinator_address: expected one or the other")
    if how == "off" or (how == "auto" and not any(has) and not cluster(os.environ)):
        return ""
    if address.process == 0:
        _check_port(address)
    # JAX's notice of SIGTERM would keep it from our handler (train/run_folder/stop.py), and nobody asks for it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        with _deadly_signals():
            jax.distributed.initialize(*address, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError, OSError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the processes could not be joined ({type(error).__name__}: {reason}): give "
            "--coordinator_address=HOST:PORT --num_processes=N --process_id=I, or --distributed=off for one process"
        ) from error
    _keep_stdout()
    watch(jax.process_index(), jax.process_count(), from_first, address.coordinator)
    n = jax.local_device_count()
    return f"demjax: process {jax.process_index()} of {jax.process_count()}, {n} of {jax.device_count()} devices"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """--distributed and the address, for command lines that other processes can share."""
    group = parser.add_argument_group("several processes as one program, the same flags in each")
    group.add_argument("--distributed", default="auto", choices=("auto", "on", "off"), help="as of demjax.main")
    group.add_argument("--coordinator_address", metavar="HOST:PORT", help="of process 0")
    group.add_argument("--num_processes", type=int, metavar="N")
    group.add_argument("--process_id", type=int, metavar="I", help="from 0")


def join_flags(flags: argparse.Namespace) -> str:
    """`join` by the values of the flags of `add_flags`."""
    return join(flags.distributed, Address(flags.coordinator_address, flags.num_processes, flags.process_id))


def _check(address: Address) -> None:
    host, _, port = (address.coordinator or "").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator_address={address.coordinator}: expected HOST:PORT of process 0")
    n, process = address.n_processes or 0, address.process
    if n < 1 or process is None or not 0 <= process < n:
        raise UserError(f"--process_id={process} of --num_processes={n}: expected 0 to {max(n - 1, 0)}")


def cluster(environment: Mapping[str, str]) -> str:
    """The kind of cluster a process was started in, "" for none.

    Raises:
      UserError: a cluster of several processes in which JAX would not find the others.
    """

    def has(names: Sequence[str]) -> bool:
        return all(environment.get(name) for name in names)

    if has(GKE_TPU) or _is_tpu_vm(environment):
        return "tpu"
    if has(SLURM):
        return "slurm" if int(environment["SLURM_NTASKS"]) > 1 else ""
    if int(environment.get("OMPI_COMM_WORLD_SIZE") or 1) > 1:
        if not environment.get("OMPI_MCA_orte_hnp_uri"):
            raise UserError(
                f"{environment['OMPI_COMM_WORLD_SIZE']} processes of an Open MPI that JAX does not know (5 or newer): "
                "give --coordinator_address=HOST:PORT --num_processes=N --process_id=$OMPI_COMM_WORLD_RANK"
            )
        return "mpi"
    if has(INDEXED_JOB):
        if importlib.util.find_spec("kubernetes") is None:
            raise UserError("an indexed Kubernetes job without the package JAX finds it with: pip install 'jax[k8s]'")
        return "kubernetes"
    return ""


def _is_tpu_vm(environment: Mapping[str, str]) -> bool:
    chips = any(Path(device).exists() for device in ("/dev/accel0", "/dev/vfio/0"))
    return chips and importlib.util.find_spec("libtpu") is not None and not environment.get("TPU_SKIP_MDS_QUERY")


def leave(status: int) -> None:
    """The end of a program that may have joined others: all wait for each other, or, with a mistake, for nobody."""
    if jax.process_count() == 1:
        return
    if status:  # an orderly end of JAX would wait for the others, who may be waiting for this process
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    multihost_utils.sync_global_devices("leave")
    farewell()
    jax.distributed.shutdown()
