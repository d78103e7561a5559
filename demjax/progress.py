"""How far a long computation has come, on one line of the terminal."""

import sys
import time
from typing import TextIO

QUIET_SECONDS = 2.0


def duration(seconds: int | float) -> str:
    """3.1 s, 0:42 min, 2:05:10 h.

    >>> duration(3.14), duration(125), duration(7510)
    ('3.1 s', '2:05 min', '2:05:10 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"


def readable_bytes(n: int | float) -> str:
    """A number of bytes with its unit, three digits.

    >>> readable_bytes(96_600_000), readable_bytes(58e9)
    ('92.1 MiB', '54 GiB')
    """
    for unit in ("KiB", "MiB"):
        n /= 1024
        if n < 1000:
            return f"{n:.3g} {unit}"
    return f"{n / 1024:.3g} GiB"


class ProgressLine:
    """`label 42 % | 3.1 s | eta 4.2 s`, rewritten in place on a terminal; before QUIET_SECONDS it says nothing.

    Call it with (done, total) as the work goes on. Where the stream is no terminal it writes a line at most
    every ten seconds.
    """

    def __init__(self, label: str, stream: TextIO | None = None):
        self._label, self._stream = label, stream or sys.stderr
        self._live = self._stream.isatty()
        self._start = time.monotonic()
        self._next = self._start + QUIET_SECONDS

    def __call__(self, done: int, total: int) -> None:
        """Shows that `done` of `total` equal parts are ready."""
        now = time.monotonic()
        if now < self._next:
            return
        spent = now - self._start
        eta = duration(spent * (total / done - 1))
        line = f"{self._label} {100 * done / total:3.0f} % | {duration(spent)} | eta {eta}"
        if self._live:
            end = "\n" if done == total else ""
            self._stream.write(f"\r{line:<70}{end}")
            self._next = now + 0.2 if done < total else now
        else:
            self._stream.write(line + "\n")
            self._next = now + 10
        self._stream.flush()
