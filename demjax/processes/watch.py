"""Notices at once that another process of the program has ended, where its peers would wait for it in a collective.

Process 0 listens, the others connect, and nothing is ever sent but a greeting and a farewell: the kernel closes the
connection of a process that dies, whatever killed it. A machine that vanishes without closing anything is noticed by
JAX's heartbeat.
"""

import contextlib
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable

GONE = 75  # exit status, EX_TEMPFAIL: start the same command again
CONNECT_SECONDS = 20.0
FAREWELL = b"."

_lines: dict[int, socket.socket] = {}  # process 0 has one to each other process, these have one to process 0


def watch(process: int, n: int, from_first: Callable[[str], str]) -> None:
    """Starts watching; where no connection comes about, says so and leaves it to the heartbeat.

    Args:
      process, n: this one and how many there are.
      from_first: (message) -> the message of process 0, in every process.
    """
    if n == 1:
        return
    listener = socket.create_server(("", 0), backlog=n) if process == 0 else None
    where = f"{_own_address()} {listener.getsockname()[1]} {secrets.token_hex(16)}" if listener else ""
    host, port, token = from_first(where).split()
    try:
        _lines.update(_accepted(listener, n - 1, token) if listener else {0: _greeted(host, port, token, process)})
    except OSError as error:
        told = f"demjax: process {process} cannot watch the others ({error}): JAX's heartbeat notices who is gone"
        print(told, file=sys.stderr)
        return
    for peer, line in _lines.items():
        threading.Thread(target=_listen, args=(peer, n, line), daemon=True).start()


def farewell() -> None:
    """From now on this process may end without a word of the others."""
    for line in _lines.values():
        with contextlib.suppress(OSError):
            line.sendall(FAREWELL)


def _own_address() -> str:
    """As other machines see this one; no packet is sent."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        with contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))  # an address for documentation: it only picks the interface
            return str(probe.getsockname()[0])
    return "127.0.0.1"


def _greeted(host: str, port: str, token: str, process: int) -> socket.socket:
    line = socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS)
    line.settimeout(None)
    line.sendall(f"{token} {process:08d}".encode())
    return line


def _accepted(listener: socket.socket, n: int, token: str) -> dict[int, socket.socket]:
    """A connection from each of n processes; strangers are turned away."""
    peers: dict[int, socket.socket] = {}
    listener.settimeout(CONNECT_SECONDS)
    with listener:
        while len(peers) < n:
            line, _ = listener.accept()
            line.settimeout(CONNECT_SECONDS)
            greeting = line.recv(len(token) + 9, socket.MSG_WAITALL).decode(errors="replace").split()
            if len(greeting) == 2 and secrets.compare_digest(greeting[0], token):
                line.settimeout(None)
                peers[int(greeting[1])] = line
            else:
                line.close()
    return peers


def _listen(peer: int, n: int, line: socket.socket) -> None:
    """Ends this process when the other does, unless it says farewell first; process 0 tells the others whom it lost."""
    heard = b""
    with contextlib.suppress(OSError):
        heard = line.recv(16)
    if heard[:1] == FAREWELL:
        return
    gone = int(heard) if heard.isdigit() else peer
    for other in _lines.values():
        with contextlib.suppress(OSError):
            other.sendall(str(gone).encode())
    told = f"demjax: error: process {gone} of {n} has gone; what was saved is intact, the same command resumes"
    print(told, file=sys.stderr, flush=True)
    os._exit(GONE)  # the main thread may hang in a collective for ever
