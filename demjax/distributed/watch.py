"""Notices at once that another process of the program has ended, where its peers would wait for it in a collective.

Process 0 listens, the others connect and are answered, and from then on nothing is sent but a farewell, or the number
of one that is gone: the kernel closes the connection of a process that dies, whatever killed it. Whom no connection
reaches (a firewall, a machine that vanishes without closing anything) is left to JAX's heartbeat; nobody ends for want
of a connection.
"""

import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable

GONE = 75  # exit status, EX_TEMPFAIL: start the same command again
CONNECT_SECONDS = 20.0
WELCOME, FAREWELL = b"!", b"."

_lines: dict[int, socket.socket] = {}  # process 0 has one to each other process, these have one to process 0


def watch(process: int, n: int, from_first: Callable[[str], str], coordinator: str | None = None) -> None:
    """Starts watching whom it can; says whom it cannot.

    Args:
      process, n: this one and how many there are.
      from_first: (message) -> the message of process 0, in every process.
      coordinator: HOST:PORT of process 0, where it is known: the interface that the others reach.
    """
    if n == 1:
        return
    listener = _listener(coordinator) if process == 0 else None
    where = "{} {} {}".format(*listener.getsockname()[:2], secrets.token_hex(16)) if listener else ""
    host, port, token = from_first(where).split()
    if listener:
        _lines.update(_accepted(listener, n - 1, token))
        missing = sorted(set(range(1, n)) - _lines.keys())
    else:
        _lines.update(_greeted(host, port, token, process))
        missing = [] if _lines else [0]
    if missing:
        peers = ", ".join(map(str, missing[:8])) + (" ..." if len(missing) > 8 else "")
        print(f"demjax: process {process} cannot watch {peers}: JAX's heartbeat notices who is gone", file=sys.stderr)
    for peer, line in _lines.items():
        threading.Thread(target=_listen, args=(peer, n, line), daemon=True).start()


def farewell() -> None:
    """From now on this process may end without a word of the others."""
    for line in _lines.values():
        with contextlib.suppress(OSError):
            line.sendall(FAREWELL)


def _listener(coordinator: str | None) -> socket.socket:
    """On the interface by which the others reach this machine, and on no other."""
    host, _, port = (coordinator or "").rpartition(":")
    # 192.0.2.1 is an address for documentation; no packet is sent, it only picks the interface.
    for target in ((host.strip("[]"), int(port or 9)), ("192.0.2.1", 9)):
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            if target[0]:
                probe.connect(target)
                return socket.create_server((str(probe.getsockname()[0]), 0), backlog=1024)
    return socket.create_server(("127.0.0.1", 0), backlog=1024)


def _greeted(host: str, port: str, token: str, process: int) -> dict[int, socket.socket]:
    """The line to process 0, once it has answered; none if it does not."""
    try:
        line = socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS)
    except OSError:
        return {}
    with contextlib.suppress(OSError):
        line.settimeout(2 * CONNECT_SECONDS)
        line.sendall(f"{token} {process:08d}".encode())
        if line.recv(1) == WELCOME:
            line.settimeout(None)
            return {0: line}
    line.close()
    return {}


def _accepted(listener: socket.socket, n: int, token: str) -> dict[int, socket.socket]:
    """A line from each of n processes, or from those that came in time; strangers are turned away."""
    peers: dict[int, socket.socket] = {}
    end = time.monotonic() + CONNECT_SECONDS
    with listener:
        while len(peers) < n and (left := end - time.monotonic()) > 0:
            listener.settimeout(left)
            try:
                line, _ = listener.accept()
            except OSError:
                break
            try:
                line.settimeout(1.0)  # who connects has its greeting ready
                sent, number = line.recv(len(token) + 9, socket.MSG_WAITALL).decode().split()
                if not secrets.compare_digest(sent, token):
                    raise ValueError("a stranger")
                line.sendall(WELCOME)
                line.settimeout(None)
                peers[int(number)] = line
            except (OSError, ValueError):
                line.close()
    return peers


def _listen(peer: int, n: int, line: socket.socket) -> None:
    """Ends this process when the other does without a farewell; process 0 names the lost one to the others."""
    heard = b""
    with contextlib.suppress(OSError):
        heard = line.recv(16)
    if heard[:1] == FAREWELL:
        return
    gone = int(heard) if heard.isdigit() else peer
    for other in _lines.values():
        with contextlib.suppress(OSError):
            other.sendall(str(gone).encode())
    error = f"demjax: error: process {gone} of {n} has gone; what was saved is intact: start the same command again"
    print(error, file=sys.stderr, flush=True)
    os._exit(GONE)  # the main thread may hang in a collective for ever
