"""Rows of an array in an order of their own, read where they are asked for: the array may be a mapped file."""

import errno
import os
from typing import Any

import numpy as np

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
        if real.all():
            return read_rows(self._source, self._ids[places])
        out = np.zeros((len(places), *self.shape[1:]), self.dtype)
        out[real] = read_rows(self._source, self._ids[places[real]])
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def read_rows(source: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """source[ids], runs of neighbours in one piece.

    Raises:
      OSError: source is a mapped file that is gone, or shorter than it was. (Touching what is no more there would end
        the process without a word.)
    """
    _check_file(source)
    ends = np.flatnonzero(np.diff(ids) != 1) + 1
    if not len(ids) or len(ids) < FEW_RUNS * (len(ends) + 1):
        return np.asarray(source[ids])
    out, begin = np.empty((len(ids), *source.shape[1:]), source.dtype), 0
    for end in (*ends.tolist(), len(ids)):
        first = int(ids[begin])
        out[begin:end] = source[first : first + end - begin]
        begin = end
    return out


def _check_file(source: np.ndarray) -> None:
    path = getattr(source, "filename", None)
    if path and os.stat(path).st_size < source.offset + source.nbytes:  # type: ignore[attr-defined]
        raise OSError(errno.EIO, "was cut short while it was in use", str(path))
