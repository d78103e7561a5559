"""Class vectors that a text encoder of ours made, from the .npz file of `python -m demjax.encode`."""

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from demjax.checks import UserError, listed
from demjax.data.dataset import Dataset

ARRAYS = ("classes", "class_vectors", "trained_on", "provenance")


def split_sources(semantics: str) -> tuple[str, list[Path]]:
    """`att+runs/sje.npz` as ("att", [runs/sje.npz])."""
    sources = semantics.split("+")
    files = [s for s in sources if s.endswith(".npz")]
    return "+".join(s for s in sources if s not in files), [Path(f).expanduser() for f in files]


def with_learned(dataset: Dataset, files: list[Path], keep_table: bool) -> Dataset:
    """The set with learned class vectors as semantics; beside its own table with `keep_table`.

    Raises:
      UserError: no such file, another one, classes that are missing, vectors not finite, or an encoder that was trained
        with images of classes that are unseen here.
    """
    tables = dict(dataset.tables()) if keep_table else {}
    told = [dataset.sources.get("semantics", "")] if keep_table else []
    for path in files:
        found = read_learned(path)
        row = {str(name): i for i, name in enumerate(found["classes"])}
        missing = [name for name in dataset.classes if name not in row]
        if missing:
            raise UserError(
                f"{path} has no vector of {len(missing)} classes: {listed(missing, 3)}; encode their captions"
            )
        seen_there = {str(name) for name in found["trained_on"]}
        leaked = [dataset.classes[c] for c in dataset.unseen if dataset.classes[c] in seen_there]
        if leaked:
            raise UserError(
                f"{path} was learned from images of {len(leaked)} classes that are unseen in this split "
                f"({listed(leaked, 3)}): train the encoder on the split it is used with"
            )
        if path.stem in tables:
            raise UserError(f"semantics name {path.stem!r} twice: expected each source once")
        tables[path.stem] = found["class_vectors"][[row[name] for name in dataset.classes]]
        told.append(f"{path.name} ({_encoder_of(path, str(found['provenance']))}, learned on the classes of trainval)")
    return dataclasses.replace(
        dataset,
        semantics=np.concatenate(list(tables.values()), axis=1).astype(np.float32),
        parts={name: table.shape[1] for name, table in tables.items()} if len(tables) > 1 else {},
        sources=dict(dataset.sources) | {"semantics": "+".join(told)},
    )


def _encoder_of(path: Path, provenance: str) -> str:
    try:
        return str(json.loads(provenance)["encoder"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: its provenance is no JSON with an encoder: encode the captions again") from error


def read_learned(path: Path) -> Mapping[str, Any]:
    """The arrays of an .npz file of `python -m demjax.encode`.

    Raises:
      UserError: no such file, damaged, or not such a file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; python -m demjax.encode --workdir=RUN --out={path} makes it")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            found = {name: file[name] for name in ARRAYS if name in file}
    except (ValueError, OSError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}): encode the captions again") from error
    missing = [name for name in ARRAYS if name not in found]
    if missing:
        raise UserError(f"{path} has no {missing[0]!r}: expected a file of python -m demjax.encode")
    vectors, flat = found["class_vectors"], (found["classes"].ndim == 1, found["trained_on"].ndim == 1)
    if (
        not all(flat)
        or vectors.ndim != 2
        or len(vectors) != len(found["classes"])
        or vectors.dtype.kind != "f"
        or not vectors.size
    ):
        raise UserError(f"{path}: class_vectors are {vectors.dtype} {vectors.shape}: expected one row for each class")
    return found
