"""Class vectors that a text encoder of ours made, from the .npz file of `python -m demjax.encode`."""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demjax.checks import UserError, listed

ARRAYS = ("classes", "class_vectors", "trained_on", "provenance")


def split_sources(semantics: str) -> tuple[str, list[Path]]:
    """`att+runs/sje.npz` as ("att", [runs/sje.npz])."""
    sources = semantics.split("+")
    files = [s for s in sources if s.endswith(".npz")]
    return "+".join(s for s in sources if s not in files), [Path(f).expanduser() for f in files]


def encoded_class_vectors(path: Path, classes: Sequence[str], unseen: Sequence[str]) -> tuple[np.ndarray, str]:
    """(vectors [c, e], what made them): the rows of a file for `classes` [c], joined by name.

    The encoder must not have seen the classes `unseen`.

    Raises:
      UserError: no such file, damaged, another one; missing classes; an encoder trained with images of unseen classes.
    """
    arrays = _read(path)
    row = {str(name): i for i, name in enumerate(arrays["classes"])}
    missing = [name for name in classes if name not in row]
    if missing:
        raise UserError(f"{path} has no vector of {len(missing)} classes: {listed(missing, 3)}; encode their captions")
    trained_on = {str(name) for name in arrays["trained_on"]}
    leaked = [name for name in unseen if name in trained_on]
    if leaked:
        raise UserError(
            f"{path} was learned from images of {len(leaked)} classes that are unseen in this split "
            f"({listed(leaked, 3)}): train the encoder on the split it is used with"
        )
    try:
        encoder = json.loads(str(arrays["provenance"]))["encoder"]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: its provenance is no JSON with an encoder: encode the captions again") from error
    vectors = arrays["class_vectors"][[row[name] for name in classes]]
    return vectors, f"{path.name} ({encoder}, learned on the classes of trainval)"


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; python -m demjax.encode --workdir=RUN --out={path} makes it")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ARRAYS if name in file}
    except (ValueError, OSError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}): encode the captions again") from error
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise UserError(f"{path} has no {missing[0]!r}: expected a file of python -m demjax.encode")
    vectors, flat = arrays["class_vectors"], arrays["classes"].ndim == arrays["trained_on"].ndim == 1
    numbers = vectors.ndim == 2 and vectors.dtype.kind == "f" and vectors.size > 0
    if not flat or not numbers or len(vectors) != len(arrays["classes"]):
        raise UserError(f"{path}: class_vectors are {vectors.dtype} {vectors.shape}: expected one row for each class")
    return arrays
