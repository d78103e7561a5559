"""Reads the variables one needs from a MATLAB file, version 5 (scipy) or 7.3 (HDF5), in MATLAB's orientation."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from demjax.checks import UserError, did_you_mean

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def read_mat(path: Path, keys: Iterable[str], optional: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Reads `keys`, and those of `optional` that are there. Cells of strings come as object arrays of str.

    Raises:
      UserError: no such file, not a `.mat` file, damaged or cut short, or a key is missing.
    """
    path, keys, wanted = Path(path), list(keys), [*keys, *optional]
    if not path.is_file():
        raise UserError(f"{path}: no such file; put it there or point --config.data.dir at its folder")
    try:
        present, values = _read_hdf5(path, wanted) if _is_hdf5(path) else _read_v5(path, wanted)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # both libraries raise a dozen types on damaged bytes
        raise UserError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read as a MATLAB file "
            f"({type(error).__name__}: {' '.join(str(error).split())[:120]}); it is damaged, cut short or "
            "something else: fetch or export it again"
        ) from error
    missing = [k for k in keys if k not in values]
    if missing:
        raise UserError(f"{path} has no {missing[0]!r}: {did_you_mean(missing[0], present)}")
    return values


def mat_keys(path: Path) -> list[str]:
    """Names of the variables of a MATLAB file, without reading them."""
    present, _ = _read_hdf5(path, []) if _is_hdf5(path) else _read_v5(path, [])
    return present


def _is_hdf5(path: Path) -> bool:
    """HDF5 puts its magic at 0, 512, 1024 ...; MATLAB 7.3 writes 512 bytes of text before it."""
    with path.open("rb") as file:
        head = file.read(2048)
    return any(head[at : at + 8] == _HDF5_MAGIC for at in (0, 512, 1024))


def _read_v5(path: Path, wanted: list[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    from scipy import io

    present = [name for name, _, _ in io.whosmat(path)]
    values = io.loadmat(path, variable_names=[k for k in wanted if k in present])
    for key in (k for k in wanted if k in values and not isinstance(values[k], np.ndarray)):
        raise UserError(f"{path}: {key!r} is a sparse matrix: expected a full one, save full({key})")
    return present, {k: _plain(values[k]) for k in wanted if k in values}


def _plain(value: np.ndarray) -> np.ndarray:
    """Unwraps scipy's cells of one-element arrays into cells of str."""
    if value.dtype != object:
        return value
    unwrapped = [str(np.ravel(v)[0]) if np.size(v) else "" for v in value.ravel()]
    return np.array(unwrapped, dtype=object).reshape(value.shape)


def _read_hdf5(path: Path, wanted: list[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    import h5py

    with h5py.File(path, "r") as file:
        present = [k for k in file if not k.startswith("#")]
        return present, {k: _hdf5_value(file, file[k]) for k in wanted if k in present}


def _hdf5_value(file: Any, item: Any) -> np.ndarray:
    """MATLAB writes column-major: HDF5 readers see axes reversed, and cells as references to char arrays."""
    import h5py

    if not isinstance(item, h5py.Dataset):
        raise UserError(f"{file.filename}: {item.name} is a struct or group: expected an array")
    value = item[()].T
    if h5py.check_ref_dtype(item.dtype):
        cells = ["".join(chr(int(c)) for c in np.ravel(file[ref][()])) for ref in value.ravel()]
        return np.array(cells, dtype=object).reshape(value.shape)
    return value
