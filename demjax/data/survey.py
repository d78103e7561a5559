"""One look at all rows of a mapped file, every process at its share: a digest, and whether the numbers are finite."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from demjax import processes
from demjax.checks import UserError
from demjax.data.picked import read_rows
from demjax.progress import ProgressLine

BLOCK_BYTES = 2**26  # read and digested at once; the digest depends on it


class Survey(NamedTuple):
    """The SHA-256 of the digests of all blocks, 16 hex digits, and the first row that holds NaN or Inf, or -1."""

    digest: str
    bad_row: int


_surveyed: dict[str, Survey] = {}  # a run and its validation twin look at one file


def survey(features: np.memmap, check: Callable[[], Any] = lambda: None) -> Survey:
    """Reads a mapped array [n, d] once, on the first call for this file in this state; all processes must call it.

    `check` is called between blocks, in all processes, and may raise.

    Raises:
      UserError: a row that holds NaN or Inf, in all processes.
      OSError: the file is gone, or shorter than it was.
    """
    key = _state(features)
    if any(processes.any_of(key not in _surveyed)):
        _surveyed[key] = _look(features, check)
    found = _surveyed[key]
    with processes.together():
        if found.bad_row >= 0:
            raise UserError(
                f"{features.filename}: row {found.bad_row} (0-based) holds NaN or Inf: extract this image again or "
                "take it out"
            )
    return found


def recall(file: Path) -> None:
    """Takes over what was `remembered` in a file; one that is not there, or damaged, is nothing to remember."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        for key, (digest, bad_row) in json.loads(file.read_text()).items():
            if re.fullmatch("[0-9a-f]{16}", digest) and isinstance(bad_row, int):
                _surveyed.setdefault(key, Survey(digest, bad_row))


def remembered(features: np.memmap) -> dict[str, Survey]:
    """What was seen of a file, by its path, size and time: JSON values."""
    key = _state(features)
    return {key: _surveyed[key]}


def _state(features: np.memmap) -> str:
    told = os.stat(str(features.filename))
    return f"{features.filename} {features.offset} {features.shape} {told.st_size} {told.st_mtime_ns}"


def _look(features: np.memmap, check: Callable[[], Any]) -> Survey:
    rows = max(1, BLOCK_BYTES // (features.shape[1] * features.itemsize))
    starts = np.arange(0, len(features), rows)
    progress = ProgressLine("checking features") if processes.is_first() else None

    def look(some: slice) -> tuple[np.ndarray, np.ndarray]:
        (start,) = starts[some]
        block = read_rows(features, np.arange(start, min(start + rows, len(features))))
        bad = not_finite(block)
        if progress:
            progress(some.stop, len(starts))
        sha = np.frombuffer(hashlib.sha256(block.data).digest(), np.uint8)
        return sha[None], np.array([bad[0] if len(bad) else -1], np.int32)

    like = np.zeros((0, 32), np.uint8), np.zeros(0, np.int32)
    digests, bad = processes.share_rows(len(starts), 1, look, like, check)
    where = np.flatnonzero(bad >= 0)
    first = int(starts[where[0]] + bad[where[0]]) if len(where) else -1
    told = f"{features.dtype.str}{features.shape}".encode()
    return Survey(hashlib.sha256(told + digests.tobytes()).hexdigest()[:16], first)


def not_finite(features: np.ndarray) -> np.ndarray:
    """Numbers of the rows that hold NaN or Inf."""
    # A sum is finite iff the row is, up to overflow; only suspects are looked at value by value.
    with np.errstate(all="ignore"):
        suspect = np.flatnonzero(~np.isfinite(features.sum(axis=1)))
    return suspect[~np.isfinite(features[suspect]).all(axis=1)]
