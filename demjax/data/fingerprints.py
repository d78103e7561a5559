"""Digests of arrays, text and mapped files. A mapped file is read once, every process reading its share."""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from demjax import distributed
from demjax.checks import UserError
from demjax.data.files import read_json
from demjax.data.lazy_rows import read_rows
from demjax.progress import ProgressLine

BLOCK_BYTES = 2**26  # read and digested at once; the digest depends on it


def digest(*parts: np.ndarray | Iterable[str]) -> str:
    """First 16 hex digits of the SHA-256 of arrays (with type and shape) and sequences of text."""
    sha = hashlib.sha256()
    for part in parts:
        array = np.ascontiguousarray(part) if isinstance(part, np.ndarray) else np.array(list(part), dtype="U")
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(array.view(np.uint8).data if array.size else b"")
    return sha.hexdigest()[:16]


class FileFingerprint(NamedTuple):
    """What one reading of a mapped file says of it.

    Attributes:
      digest: first 16 hex digits of the SHA-256 of type, shape and the digests of all blocks of BLOCK_BYTES.
      bad_row: the first row (0-based) that holds NaN or Inf, or -1.
    """

    digest: str
    bad_row: int


_known: dict[str, FileFingerprint] = {}  # a run and its validation twin read one file


def fingerprint_file(features: np.memmap, stop_point: Callable[[], Any] = lambda: None) -> FileFingerprint:
    """Reads a mapped array [n, d] once, on the first call for this file in this state; all processes must call it.

    `stop_point` is called between blocks in all processes; it may raise to end the work.

    Raises:
      UserError: a row that holds NaN or Inf, in all processes.
      OSError: the file is gone, or shorter than it was.
    """
    key = _state(features)
    if any(distributed.any_of(key not in _known)):
        _known[key] = _read(features, stop_point)
    fingerprint = _known[key]
    with distributed.raise_in_all():
        if fingerprint.bad_row >= 0:
            raise UserError(
                f"{features.filename}: row {fingerprint.bad_row} (0-based) holds NaN or Inf: extract this image again "
                "or take it out"
            )
    return fingerprint


def load_known(file: Path) -> None:
    """Takes over the fingerprints that a JSON file holds, as `known` gives them.

    A file that is not there or damaged, and entries of another form, are passed over: the data are read again.
    """
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        for key, (sha, bad_row) in read_json(file).items():
            if re.fullmatch("[0-9a-f]{16}", sha) and isinstance(bad_row, int):
                _known.setdefault(key, FileFingerprint(sha, bad_row))


def known(features: np.memmap) -> dict[str, FileFingerprint]:
    """{path, size and time of the file: its fingerprint}, JSON values, once `fingerprint_file` has read it."""
    key = _state(features)
    return {key: _known[key]}


def not_finite(features: np.ndarray) -> np.ndarray:
    """Numbers of the rows of an array [n, d] that hold NaN or Inf, ascending."""
    # A sum is finite iff the row is, up to overflow; only suspects are looked at value by value.
    with np.errstate(all="ignore"):
        suspect = np.flatnonzero(~np.isfinite(features.sum(axis=1)))
    return suspect[~np.isfinite(features[suspect]).all(axis=1)]


def _state(features: np.memmap) -> str:
    status = os.stat(str(features.filename))
    return f"{features.filename} {features.offset} {features.shape} {status.st_size} {status.st_mtime_ns}"


def _read(features: np.memmap, stop_point: Callable[[], Any]) -> FileFingerprint:
    rows = max(1, BLOCK_BYTES // (features.shape[1] * features.itemsize))
    starts = np.arange(0, len(features), rows)
    progress = ProgressLine("checking features") if distributed.is_first() else None

    def read(blocks: slice) -> tuple[np.ndarray, np.ndarray]:
        (start,) = starts[blocks]
        block = read_rows(features, np.arange(start, min(start + rows, len(features))))
        bad = not_finite(block)
        if progress:
            progress(blocks.stop, len(starts))
        sha = np.frombuffer(hashlib.sha256(block.data).digest(), np.uint8)
        return sha[None], np.array([bad[0] if len(bad) else -1], np.int32)

    like = np.zeros((0, 32), np.uint8), np.zeros(0, np.int32)
    digests, bad = distributed.share_rows(len(starts), 1, read, like, stop_point)
    where = np.flatnonzero(bad >= 0)
    first = int(starts[where[0]] + bad[where[0]]) if len(where) else -1
    head = f"{features.dtype.str}{features.shape}".encode()
    return FileFingerprint(hashlib.sha256(head + digests.tobytes()).hexdigest()[:16], first)
