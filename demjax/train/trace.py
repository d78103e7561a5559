"""A trace of some compiled calls, for whoever asks where the time goes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax

FIRST, LAST = 2, 4  # calls of a session that are traced; the first one compiles


class Trace:
    """Traces calls FIRST to LAST of a session into a folder; "" traces nothing."""

    def __init__(self, folder: str, calls: int, say):
        """`calls` are those of this session: of a single one, that is traced."""
        self._folder, self._say, self._number = folder, say, 0
        self._first, self._last = min(FIRST, calls), min(LAST, calls)

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Around each call, until its results are there."""
        self._number += 1
        if self._folder and self._number == self._first:
            jax.profiler.start_trace(str(Path(self._folder).expanduser()))
        try:
            yield
        finally:
            if self._folder and self._number == self._last:
                jax.profiler.stop_trace()
                self._say(f"profile of calls {self._first} to {self._last}: {self._folder} (ui.perfetto.dev shows it)")
