"""Torch7 files of one tensor of numbers, such as `images/<class>.t7` and `text_c10/<class>.t7` of Reed et al. 2016.

    >>> features = read_t7("images/001.Black_footed_Albatross.t7")  # [n, 1024, 10]   # doctest: +SKIP

Nothing but numbers is read: no table, no function, no class. Layout of the binary form, little endian: int32 4 (an
object), int32 index, string "V 1", string "torch.FloatTensor", int32 axes, int64 sizes, int64 strides, int64 offset
from 1; then the storage as another object: int32 4, int32 index, "V 1", "torch.FloatStorage", int64 length, the
numbers. A string is an int32 length and its bytes.
"""

from pathlib import Path
from typing import Any

import numpy as np

from demjax.checks import UserError

KINDS = {
    "Byte": "u1", "Char": "i1", "Short": "<i2", "Int": "<i4", "Long": "<i8", "Float": "<f4", "Double": "<f8",
}  # fmt: skip
_OBJECT, _MOST_AXES, _MOST_EMPTY = 4, 8, 2**31


def read_t7(path: str | Path) -> np.ndarray:
    """The tensor of a binary .t7 file, as a copy in C order. Sizes are checked against the bytes that are there.

    Raises:
      UserError: no such file, anything but one tensor of numbers, damaged or cut short.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a .t7 file of one tensor")
    return _Reader(path, path.read_bytes()).tensor()


class _Reader:
    def __init__(self, path: Path, raw: bytes):
        self._path, self._raw, self._at = path, raw, 0

    def tensor(self) -> np.ndarray:
        kind = self._head("Tensor")
        axes = self._number("<i4")
        if not 0 <= axes <= _MOST_AXES:
            raise self._bad(f"a tensor of {axes} axes")
        sizes, strides = (tuple(self._number("<i8") for _ in range(axes)) for _ in range(2))
        offset = self._number("<i8") - 1
        if min(sizes, default=0) < 0:
            raise self._bad(f"a negative size in {sizes}")
        if axes == 0 or 0 in sizes:
            if np.prod([n for n in sizes if n], dtype=object) > _MOST_EMPTY:
                raise self._bad(f"an empty tensor of shape {sizes}")
            return np.zeros(sizes if axes else (0,), KINDS[kind])
        if self._head("Storage") != kind:
            raise self._bad("a tensor and numbers of different kinds")
        numbers = np.frombuffer(self._take(self._number("<i8") * np.dtype(KINDS[kind]).itemsize), KINDS[kind])
        last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        if min(*sizes, *strides, offset) < 0 or last >= len(numbers) or np.prod(sizes, dtype=object) > len(numbers):
            raise self._bad(f"shape {sizes} of {len(numbers)} numbers")
        if self._at < len(self._raw):
            raise self._bad(f"{len(self._raw) - self._at} bytes behind the tensor")
        step, strides = numbers.itemsize, tuple(s if n > 1 else 0 for n, s in zip(sizes, strides, strict=True))
        return np.lib.stride_tricks.as_strided(numbers[offset:], sizes, [s * step for s in strides]).copy()

    def _head(self, what: str) -> str:
        """Reads up to the name of an object, "torch.FloatTensor"; the kind, "Float"."""
        if self._number("<i4") != _OBJECT:
            raise self._bad(f"no torch.{what}; only files of one tensor are read, no tables")
        self._number("<i4")  # the index of the object in the file
        name = self._string()
        if name.startswith("V "):
            name = self._string()
        kind = name.removeprefix("torch.").removesuffix(what)
        if kind not in KINDS or name != f"torch.{kind}{what}":
            raise self._bad(f"an object {name[:40]!r}")
        return kind

    def _string(self) -> str:
        return self._take(self._number("<i4")).decode("latin-1")

    def _number(self, kind: str) -> int:
        return int(np.frombuffer(self._take(np.dtype(kind).itemsize), kind)[0])

    def _take(self, n: int) -> bytes:
        if not 0 <= n <= len(self._raw) - self._at:
            raise self._bad(f"{n} bytes at {self._at}, where {len(self._raw) - self._at} are left")
        self._at += n
        return self._raw[self._at - n : self._at]

    def _bad(self, got: Any) -> UserError:
        return UserError(f"{self._path}: expected one tensor of numbers in the binary form of Torch7, got {got}")
