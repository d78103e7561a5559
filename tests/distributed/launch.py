"""Starts the processes of one program on this machine, 8 virtual devices in all, and waits for them."""

import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.waiting import HUNG

ROOT = Path(__file__).parents[2]
DEVICES = 8
GLOO = ("[Gloo]", "connected peer ranks")  # its threads write lines that may be torn


class Ended(NamedTuple):
    status: int
    out: str
    err: str


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start(argv, devices, cwd=ROOT, file_bytes=None):
    """One process with so many virtual devices and caches of its own, whose files do not grow beyond `file_bytes`."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), NPROC="32", PYTHONUNBUFFERED="1")
    given = os.environ.get("XLA_FLAGS", "")
    env["XLA_FLAGS"] = f"{given} --xla_force_host_platform_device_count={devices}".strip()
    if file_bytes:
        env["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # it would tell of its own files
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen([sys.executable, *map(str, argv)], env=env, cwd=cwd, **pipes)
    if file_bytes:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    return process


def finish(started, grace=HUNG):
    """All have ended; a program that hangs is ended and told of.

    With `grace`, those left when one has ended are killed after so many seconds, as launchers do.
    """
    ended, begun, first = [], time.monotonic(), 0.0
    while grace < HUNG and any(p.poll() is None for p in started) and time.monotonic() - begun < HUNG:
        time.sleep(0.1)
        first = first or (time.monotonic() if any(p.poll() is not None for p in started) else 0.0)
        if first and time.monotonic() - first > grace:
            for process in started:
                process.kill()
    try:
        for process in started:
            out, err = process.communicate(timeout=HUNG)
            told = "\n".join(line for line in err.splitlines() if not any(part in line for part in GLOO))
            ended.append(Ended(process.returncode, out, told))
    finally:
        for process in started:
            process.kill()
    return ended


def workers(n, folder, *tasks):
    """worker.py in n processes."""
    address = f"127.0.0.1:{free_port()}"
    argv = [(Path(__file__).with_name("worker.py"), i, n, address, folder, *tasks) for i in range(n)]
    ended = finish([start(own, DEVICES // n) for own in argv])
    assert [e.status for e in ended] == [0] * n, ended
    return ended


def mains(n, *flags, each=lambda i: (), only=None, file_bytes=None):
    """demjax.main in n processes, started, or in `only` some of them; `each` gives the flags of one of them."""
    address = f"--coordinator_address=127.0.0.1:{free_port()}"
    common = ("-m", "demjax.main", *flags, address, f"--num_processes={n}")
    return [
        start((*common, f"--process_id={i}", *each(i)), DEVICES // n, file_bytes=file_bytes) for i in only or range(n)
    ]
