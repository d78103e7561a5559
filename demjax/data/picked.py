"""Rows of an array in an order of their own, read where they are asked for: the array may be a mapped file."""

import errno
import os
from typing import Any

import numpy as np

EMPTY = -2  # the id of a row of zeros; -1 and 0 would look like neighbours
ALIGNMENT = 64  # bytes
FEW_RUNS = 4  # rows a run of neighbours must have on average, to be copied as one piece


class Picked:
    """source[ids] behind which stands a row of zeros; slices and arrays of places read what they name, no more."""

    def __init__(self, source: np.ndarray, ids: np.ndarray):
        self._source, self._ids = source, ids
        self.shape, self.dtype = (len(ids) + 1, *source.shape[1:]), source.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: slice | np.ndarray) -> np.ndarray:
        """Rows by their places.

        Raises:
          OSError: the mapped file is gone, or shorter than it was.
        """
        places = np.arange(len(self))[places] if isinstance(places, slice) else np.asarray(places)
        real = places < len(self._ids)
        return read_rows(self._source, np.where(real, self._ids[np.where(real, places, 0)], EMPTY))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def read_rows(source: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """source[ids], runs of neighbours in one piece; zeros for EMPTY.

    Raises:
      OSError: source is a mapped file that is gone, or shorter than it was. (Touching what is no more there would end
        the process without a word.)
    """
    _check_file(source)
    ends = np.flatnonzero(np.diff(ids) != 1) + 1
    out = _aligned((len(ids), *source.shape[1:]), source.dtype)
    if len(ids) < FEW_RUNS * (len(ends) + 1):
        out[:] = source[np.maximum(ids, 0)]
        out[ids == EMPTY] = 0
        return out
    begin = 0
    for end in (*ends.tolist(), len(ids)):
        first = int(ids[begin])
        out[begin:end] = 0 if first == EMPTY else source[first : first + end - begin]
        begin = end
    return out


def _aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array that JAX on a CPU can take as it is, without another copy."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(n_bytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + n_bytes].view(dtype).reshape(shape)


def _check_file(source: np.ndarray) -> None:
    path = getattr(source, "filename", None)
    if path and os.stat(path).st_size < source.offset + source.nbytes:  # type: ignore[attr-defined]
        raise OSError(errno.EIO, "was cut short while it was in use", str(path))
