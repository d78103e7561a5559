"""A trace of a few compiled calls, which shows where the time goes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax

FIRST, LAST = 2, 4  # calls of a session that are traced; the first one compiles


class Trace:
    """Traces calls FIRST to LAST of a session into a folder, one for each process; "" traces nothing."""

    def __init__(self, folder: str, calls: int, say):
        """`calls` are those of this session: of a single one, that is traced.

        Raises:
          OSError: the folder cannot be made.
        """
        self._folder, self._say, self._number, self._running = Path(folder).expanduser(), say, 0, False
        self._first, self._last = (min(FIRST, calls), min(LAST, calls)) if folder else (0, 0)
        if folder:
            if jax.process_count() > 1:
                self._folder /= f"process-{jax.process_index()}"
            self._folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Around each call, until its results are there."""
        self._number += 1
        if self._number == self._first:
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        yield
        if self._number == self._last:
            self.close()

    def close(self) -> None:
        """Writes what is traced so far."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            last = min(self._number, self._last)
            self._say(f"profile of calls {self._first} to {last}: {self._folder} (ui.perfetto.dev shows it)")
