"""Rows of an array in another order, read where they are asked for: the array may be a mapped file."""

import errno
import os
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

EMPTY = -2  # the id of a row of zeros; -1 and 0 would look like neighbours
ALIGNMENT = 64  # bytes
FEW_RUNS = 4  # rows a run of neighbours must have on average, to be copied as one piece


class Indexed:
    """A column [n + 1, ...] whose row i is source[ids[i]]; the row behind the last is empty, all zeros.

    Ids may repeat: many captions of one image, many rows of one class. Nothing is read before it is asked for.

    Attributes:
      source: [m, ...] an array, or a mapped file of any size.
      ids: [n] rows of the source, without the empty one.
      shape, dtype, ndim: of the column, with the empty row.
    """

    def __init__(self, source: np.ndarray, ids: np.ndarray):
        """`ids` [n] are rows of the source, 0 to m - 1; a ValueError else."""
        ids = np.asarray(ids)
        if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
            raise ValueError(f"ids are {ids.dtype} {ids.shape}: expected whole numbers in one axis")
        if ids.size and (ids.min() < 0 or ids.max() >= len(source)):
            raise ValueError(
                f"ids from {ids.min()} to {ids.max()}: expected 0 to {len(source) - 1}, rows of the source"
            )
        self.source = source
        self._ids = np.append(ids.astype(np.int64, copy=False), EMPTY)
        self.ids = self._ids[:-1]
        self.shape, self.dtype, self.ndim = (len(self._ids), *source.shape[1:]), source.dtype, source.ndim

    @property
    def repeats(self) -> bool:
        """Whether an id stands more than once, so that placing the source once and gathering from it saves bytes."""
        return len(self._unique[0]) < len(self.ids)

    @property
    def nbytes(self) -> int:
        """Bytes that placing the column takes: each row of the source once, and 4 bytes a row where ids repeat.

        The empty row counts as one of both.
        """
        row_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        return (len(self._unique[0]) + 1) * row_bytes + (4 * len(self) if self.repeats else 0)

    def compact(self) -> tuple["Indexed", np.ndarray]:
        """(rows [u + 1, ...], places int32 [n + 1]): row i is rows[places[i]]; `rows` has every id once, ascending.

        Both count the empty row, which is the last one of either.
        """
        unique, places = self._unique
        return Indexed(self.source, unique), np.append(places, len(unique)).astype(np.int32)

    @cached_property
    def _unique(self) -> tuple[np.ndarray, np.ndarray]:
        if (np.diff(self.ids) > 0).all():  # as of a split: no sort, no second copy
            return self.ids, np.arange(len(self.ids), dtype=np.int32)
        unique, places = np.unique(self.ids, return_inverse=True)
        return unique, places.astype(np.int32)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, places: Any) -> np.ndarray:
        """Rows by their places, as NumPy would give them of the whole column; no other rows are read (`read_rows`)."""
        if isinstance(places, slice):
            places = np.arange(*places.indices(len(self)))
        places = np.asarray(places)
        if places.dtype == bool:
            if places.shape != (len(self),):
                raise IndexError(f"a mask of shape {places.shape}: expected ({len(self)},)")
            places = np.flatnonzero(places)
        if places.size == 0:
            return np.zeros((*places.shape, *self.shape[1:]), self.dtype)
        places = np.where(places < 0, places + len(self), places)
        if places.min() < 0 or places.max() >= len(self):
            raise IndexError(f"places from {places.min()} to {places.max()} of a column of {len(self)} rows")
        return read_rows(self.source, self._ids[places.reshape(-1)]).reshape((*places.shape, *self.shape[1:]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


class Deferred:
    """Rows that all processes compute together when they are first asked for; the row behind the last is empty."""

    def __init__(self, shape: tuple[int, ...], make: Callable[[Callable[[], Any]], np.ndarray]):
        """`shape` [n + 1, ...] counts the empty row; `make(stop_point)` computes the n others, float32."""
        self.shape, self.ndim, self.dtype, self._make = shape, len(shape), np.dtype(np.float32), make
        self.nbytes = int(np.prod(shape)) * self.dtype.itemsize  # that placing the column takes
        self._rows: np.ndarray | None = None

    def made(self, stop_point: Callable[[], Any] = lambda: None) -> np.ndarray:
        """The rows; `stop_point` is called between blocks in all processes and may raise to end the work."""
        if self._rows is None:
            rows = self._make(stop_point)
            self._rows = np.concatenate([rows, np.zeros_like(rows[:1])])
        return self._rows

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: Any) -> np.ndarray:
        return self.made()[places]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.made(), dtype) if copy else np.asarray(self.made(), dtype)


def read_rows(source: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """source[ids], runs of neighbours in one piece; zeros where an id is EMPTY. A copy, [len(ids), ...].

    Raises:
      OSError: source is a mapped file that is gone, or shorter than it was. (Touching what is no more there would end
        the process without a word.)
    """
    _check_file(source)
    ends = np.flatnonzero(np.diff(ids) != 1) + 1
    out = _aligned((len(ids), *source.shape[1:]), source.dtype)
    if len(source) == 0:
        out[:] = 0
        return out
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
