"""`load`: every data set by name, whatever its source; then vectors, sentences and the validation view."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from demjax.checks import UserError, choose
from demjax.data.class_set import GENERATED, ClassSet
from demjax.data.dataset import Dataset
from demjax.data.sources import SOURCES
from demjax.data.text import caption_files
from demjax.data.text.encoded_vectors import encoded_class_vectors, split_sources

FOLDS = {"test": 0, "val": 1, "val2": 2, "val3": 3}


def load(
    name: str,
    *,
    dir: str = "",
    features: str = "res101",
    semantics: str = "att",
    split: str = "auto",
    fold: str = "test",
    descriptions: str = "",
    planted: Mapping[str, Any] | None = None,
) -> Dataset:
    """Loads a set by name.

    Args:
      name: `planted`, one of CUB, AWA1, AWA2, SUN, APY, or any name for files of yours.
      dir: folder with the files; empty means the TFDS manual folder, then the download.
      features: `vgg19` reads vgg19.mat.
      semantics: `att`, `original_att` ... (keys of att_splits.mat) or `sent` (sent_splits.mat); `att+sent`: both; a
        file .npz of `python -m demjax.encode`: vectors of the classes learned from captions.
      split: `auto`, or the version the split file must be (`ps1`, `ps2`); TRAIN/TEST with class lists
        (sources/class_lists.py).
      fold: `test` as published, or `val`: a view in which no test image exists; `val2`, `val3`: with other classes.
      descriptions: a file or folder of captions (text/caption_files.py), or `generated` (from the class vectors);
        "" for none.
      planted: settings of `sources.planted.plant`.

    Raises:
      UserError: with what is wrong in which file, and what to do.
    """
    number = choose("data.fold", fold, FOLDS)
    folder = Path(dir).expanduser() if dir else None
    semantics, encoded = split_sources(semantics)
    source = next(s for s in reversed(SOURCES.values()) if s.claims(name, folder))
    settings = dict(features=features, semantics=semantics or "att", split=split, planted=planted or {})
    dataset = source.read(name, folder, **settings)
    if encoded:
        dataset = _with_encoded(_class_set(dataset, "class vectors"), encoded, keep=bool(semantics))
    if descriptions and descriptions != GENERATED:
        dataset, path = _class_set(dataset, "descriptions"), Path(descriptions).expanduser()
        names = caption_files.Names(dataset.classes, dataset.images, dataset.labels.tolist())
        dataset = dataset.with_descriptions(caption_files.read(path, names), path.name)
    if number:
        dataset = dataset.validation_view(fold=number)
    if descriptions == GENERATED:  # of the view: it knows no other class
        dataset = _class_set(dataset, "descriptions").with_generated_descriptions()
    return dataset


def _class_set(dataset: Dataset, what: str) -> ClassSet:
    if not isinstance(dataset, ClassSet):
        raise UserError(f"{dataset.name} is a {dataset.spec.kind}: {what} are for sets with one label an image")
    return dataset


def _with_encoded(dataset: ClassSet, files: list[Path], keep: bool) -> ClassSet:
    """The set with class vectors of encoders as semantics; with `keep` beside those it has."""
    vectors = dataset.class_vectors_by_source() if keep else {}
    sources = [dataset.sources.get("semantics", "")] if keep else []
    unseen = [dataset.classes[c] for c in dataset.unseen]
    for path in files:
        table, source = encoded_class_vectors(path, dataset.classes, unseen)
        if path.stem in vectors:
            raise UserError(f"semantics name {path.stem!r} twice: expected each source once")
        vectors[path.stem] = table
        sources.append(source)
    return dataclasses.replace(
        dataset,
        semantics=np.concatenate(list(vectors.values()), axis=1).astype(np.float32),
        parts={name: table.shape[1] for name, table in vectors.items()} if len(vectors) > 1 else {},
        sources=dict(dataset.sources) | {"semantics": "+".join(sources)},
    )
