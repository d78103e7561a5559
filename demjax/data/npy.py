"""Vectors in .npy files, opened without reading them, and never unpickled."""

from pathlib import Path

import numpy as np

from demjax.checks import UserError


def open_npy(path: str | Path) -> np.memmap:
    """The float32 array [n, d] (or [n, m, d]) of a .npy file, as a memory map: read when and where it is used.

    Raises:
      UserError: no such file, another format, Python objects (they would have to be unpickled, which can run
        any code), another type than float32, no rows.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a .npy file of float32 vectors, one per row")
    with path.open("rb") as file:
        start = file.read(6)
    if start != b"\x93NUMPY":
        raise UserError(f"{path}: not a .npy file; write one with numpy.save(path, array)")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError) as error:
        if "Python object" in str(error) or "pickle" in str(error):
            raise UserError(f"{path}: holds Python objects, which demjax never unpickles; save plain numbers") from None
        raise UserError(f"{path}: damaged or cut short ({error})") from None
    if array.dtype != np.float32:
        convert = "numpy.save(new_path, numpy.load(path).astype('float32'))"
        raise UserError(f"{path}: {array.dtype} {array.shape}: expected float32; convert with {convert}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise UserError(f"{path}: shape {array.shape}: expected rows of vectors, [n, d], or [n, m, d]")
    return array
