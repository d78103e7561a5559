"""SIGTERM and Ctrl-C ask for a stop; the loop saves and ends where it can resume."""

import signal
import time
from types import FrameType


class Preempted(Exception):
    """The run was asked to stop, and everything up to now is saved."""


class _Stop:
    """A flag that two signals raise. A second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.requested_by: signal.Signals | None = None

    @property
    def name(self) -> str:
        """Of the signal that asked, here or in another process."""
        return self.requested_by.name if self.requested_by else "a signal to another process"

    def install(self) -> None:
        """Takes over SIGTERM and SIGINT; call it before anything slow. Processes agree by `distributed.any_of`."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.requested_by == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested_by = signal.Signals(number)


stop = _Stop()


class Timer:
    """Whether a number of minutes has passed, by a clock that cannot be set back. 0 minutes: never."""

    def __init__(self, minutes: float):
        self._seconds = 60 * minutes
        self.restart()

    def restart(self) -> None:
        """Counts from now on."""
        self._since = time.monotonic()

    def is_due(self) -> bool:
        """Whether the time is over."""
        return 0 < self._seconds <= time.monotonic() - self._since
