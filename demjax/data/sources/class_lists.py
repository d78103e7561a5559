"""Large sets, as of ImageNet: arrays in .npy files, and lists of class names that say what is trained and tested.

A folder holds

    features.npy    [n, d] float32, mapped and not loaded: it may be larger than memory
    labels.npy      [n] integers, 0-based rows of the class table
    classes.txt     c names, one a line
    NAME.npy        [c, a] float32, a class table: `--config.data.semantics=NAME`, or `NAME+OTHER` for several
    lists/NAME.txt  names of classes, one a line: 800 and 200 of ILSVRC2010, 1000 and 360, 2hops, 3hops, all ...

and `--config.data.split=TRAIN/TEST` names two of the lists. A tenth of the images of every training class is test_seen.
Classes in neither list are left out; their images stay in the mapped file and are in no split.
"""

from pathlib import Path
from typing import Any

import numpy as np

from demjax.checks import UserError, listed
from demjax.data import splits as splits_lib
from demjax.data.class_set import ClassSet
from demjax.data.files import read_names
from demjax.data.npy import open_npy

SEEN_SHARE = 0.1


def read(name: str, folder: Path, *, semantics: str, split: str, **_: Any) -> ClassSet:
    """The set with the classes of both lists. A UserError says what is wrong in which file."""
    train_list, slash, test_list = split.partition("/")
    lists = sorted(p.stem for p in (folder / "lists").glob("*.txt"))
    if not slash or train_list not in lists or test_list not in lists:
        raise UserError(
            f"data.split is {split!r}: expected TRAIN/TEST, two of the lists in {folder / 'lists'}: {', '.join(lists)}"
        )
    features, names = open_npy(folder / "features.npy"), read_names(folder / "classes.txt")
    labels = _labels(folder / "labels.npy", len(features), len(names))
    tables = {source: _table(folder, source, len(names)) for source in semantics.split("+")}
    number = {name: i for i, name in enumerate(names)}
    seen, unseen = (_ids(folder / "lists" / f"{part}.txt", number) for part in (train_list, test_list))
    both = np.intersect1d(seen, unseen)
    if len(both):
        shared = listed(names[i] for i in both)
        raise UserError(f"lists {train_list} and {test_list} share {len(both)} classes: {shared}")
    kept = np.union1d(seen, unseen)
    placed = np.where(np.isin(labels, kept), np.searchsorted(kept, labels) % len(kept), 0)  # rows of the smaller table
    of_seen, of_unseen = (np.flatnonzero(np.isin(labels, classes)) for classes in (seen, unseen))
    trainval, test_seen = splits_lib.hold_out(of_seen, placed, SEEN_SHARE, seed=0)
    roles = {"trainval": trainval, "test_seen": test_seen, "test_unseen": of_unseen}
    classes = tuple(names[i] for i in kept)
    folds = splits_lib.clean_folds(roles, placed, classes, None)
    return ClassSet(
        name=name,
        features=features,
        labels=placed,
        classes=classes,
        semantics=np.concatenate([np.asarray(table[kept]) for table in tables.values()], axis=1),
        parts={source: table.shape[1] for source, table in tables.items()} if len(tables) > 1 else {},
        splits=roles | folds,
        version=split,
        sources={"features": "features.npy", "semantics": "+".join(f"{source}.npy" for source in tables)},
    )


def _table(folder: Path, source: str, n_classes: int) -> np.ndarray:
    file = folder / f"{source}.npy"
    table = open_npy(file)
    if table.ndim != 2 or len(table) != n_classes:
        raise UserError(
            f"{file} has shape {table.shape}: expected one row for each of the {n_classes} classes of "
            f"{folder / 'classes.txt'}"
        )
    return table


def _ids(path: Path, number: dict[str, int]) -> np.ndarray:
    names = read_names(path, known=number)
    if not names:
        raise UserError(f"{path} is empty: expected one class name a line")
    unknown = [name for name in names if name not in number]
    if unknown:
        raise UserError(f"{path} has {len(unknown)} names that are in no class table: {listed(unknown)}")
    return np.array(sorted(number[name] for name in names))


def _labels(path: Path, n_images: int, n_classes: int) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected {n_images} integers, 0-based rows of the class table")
    try:
        labels = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: not an array of numbers, or damaged ({error})") from None
    if labels.shape != (n_images,) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{path}: {labels.dtype} {labels.shape}: expected {n_images} integers, one for each image")
    if labels.size and (labels.min() < 0 or labels.max() >= n_classes):
        raise UserError(f"{path}: labels from {labels.min()} to {labels.max()}: expected 0 to {n_classes - 1}")
    return labels.astype(np.int64)
