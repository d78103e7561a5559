"""Reads the files of the "good, bad and ugly" benchmarks (xlsa17) and checks them.

A folder holds `<features>.mat` (features [d, n], labels 1-based) and `<semantics>_splits.mat` (one column
per class, 1-based uint16 locations). Any features and any descriptions in such files work by name.

Reference: Xian, Lampert, Schiele & Akata 2018; the README of its data archive.
"""

import hashlib
from pathlib import Path

import numpy as np

from demjax.checks import UserError, listed
from demjax.data import splits as splits_lib
from demjax.data.class_checks import check_classes
from demjax.data.class_set import ClassSet
from demjax.data.files import read_names
from demjax.data.fingerprints import not_finite
from demjax.data.sources.matfile import read_mat
from demjax.data.sources.xlsa17.locate import CLASS_NAMES, VAL_CLASSES, Files

_LOCATIONS = ("trainval", "test_seen", "test_unseen", "train", "val")

# SHA-256 (16 hex digits) of the published trainval, test_seen and test_unseen lists, 1-based, as int64.
# Both versions of the archive agree on these three lists.
PROPOSED_SPLITS = {
    "APY": "0706f7325985e27d",
    "AWA1": "d442888bf57e55db",
    "AWA2": "d1be38ecac331d23",
    "CUB": "56a2a5f722a7540b",
    "SUN": "7bbdd2d0ace95d2c",
}


def read(name: str, files: Files) -> ClassSet:
    """Reads and checks both files; locations and labels become 0-based ids, columns become rows.

    `train` and `val` never hold a test image, whichever version the file is (`splits.clean_folds`).
    Images in no list are left out.

    Raises:
      UserError: for anything a ClassSet does not allow, in the terms of the file (1-based).
    """
    (splits, key), *more = files.tables.values()
    raw = read_mat(splits, [key, *(f"{k}_loc" for k in _LOCATIONS[:3])],
                   ["train_loc", "val_loc", "allclasses_names"])  # fmt: skip
    first, classes = _class_table(splits, key, raw)
    tables = [first, *(_joined(path, key, splits, classes) for path, key in more)]
    semantics = np.concatenate(tables, axis=1)
    images = read_mat(files.features, ["features", "labels"], ["image_files"])
    labels = _labels(files, images["labels"], len(classes))
    features = _features(files.features, images["features"], len(labels))
    names = tuple(str(n).strip() for n in images.get("image_files", np.array([])).ravel())
    ids = {k: _locations(splits, k, raw[f"{k}_loc"], len(labels)) for k in _LOCATIONS if f"{k}_loc" in raw}
    version = splits_lib.version_of(ids)
    val_file = splits.parent / VAL_CLASSES
    val_classes = set(read_names(val_file, known=classes)) if val_file.is_file() else None
    ids |= splits_lib.clean_folds(ids, labels, classes, val_classes)
    try:  # before images are left out: their numbers are those of the file
        check_classes(classes, semantics, {})
        splits_lib.check_splits(ids, labels, classes)
    except UserError as error:
        raise UserError(f"{splits}: {error}") from None
    used = np.unique(np.concatenate([ids[k] for k in _LOCATIONS[:3]]))
    bad = np.intersect1d(not_finite(features), used)
    if len(bad):
        raise UserError(
            f"{files.features}: features of image {bad[0] + 1} (1-based column) hold NaN or Inf as float32 ({len(bad)} "
            "such images): extract these images again or take them out of the lists"
        )
    if len(used) < len(labels):
        features, labels = features[used], labels[used]
        names = tuple(names[i] for i in used) if len(names) > used[-1] else ()
        ids = {k: np.searchsorted(used, v) for k, v in ids.items()}
    return ClassSet(
        name=name,
        features=features,
        labels=labels,
        classes=classes,
        semantics=semantics,
        splits=ids,
        version=version,
        sources={
            "features": files.features.name,
            "semantics": "+".join(f"{path.name}:{key}" for path, key in files.tables.values()),
        },
        parts={name: table.shape[1] for name, table in zip(files.tables, tables, strict=True)} if more else {},
        images=names if len(names) == len(labels) else (),
    )


def _class_table(path: Path, key: str, raw: dict[str, np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    """(class table [c, a], names) of what was read from a file; names from it, else from CLASS_NAMES, else numbers."""
    table, names, file = _rows(path, key, raw[key]), raw.get("allclasses_names"), path.parent / CLASS_NAMES
    if names is not None:
        classes, where = tuple(str(n).strip() for n in names.ravel()), "allclasses_names"
    elif file.is_file():
        classes, where = tuple(read_names(file)), file.name
    else:
        classes, where = tuple(f"class_{i + 1:03d}" for i in range(len(table))), "numbers"
    if len(classes) != len(table):
        raise UserError(
            f"{path}: the class table has {len(table)} columns but {where} has {len(classes)} names: expected one "
            "column of attributes for each class (transpose the table if its rows are the classes)"
        )
    return table, classes


def _joined(path: Path, key: str, first: Path, classes: tuple[str, ...]) -> np.ndarray:
    """A further class table [c, a], its rows put in the order of the first one's class names."""
    table, names = _class_table(path, key, read_mat(path, [key], ["allclasses_names"]))
    missing = [name for name in classes if name not in set(names)]
    if missing or len(names) != len(classes) or len(set(names)) < len(names):
        raise UserError(
            f"{path} names {len(names)} classes, {first} {len(classes)}: expected the same names, each "
            f"once; missing there: {listed(missing) or 'none'}"
        )
    row = {name: i for i, name in enumerate(names)}
    return table[[row[name] for name in classes]]


def is_proposed_split(dataset: ClassSet) -> bool | None:
    """Whether the image lists are the published ones; None for a set without published lists."""
    expected = PROPOSED_SPLITS.get(dataset.name)
    return None if expected is None else split_digest(dataset) == expected


def split_digest(dataset: ClassSet) -> str:
    """The digest that PROPOSED_SPLITS lists."""
    sha = hashlib.sha256()
    for name in _LOCATIONS[:3]:
        sha.update((np.sort(dataset.splits[name]) + 1).astype("<i8").tobytes())
    return sha.hexdigest()[:16]


def _rows(path: Path, key: str, value: np.ndarray) -> np.ndarray:
    """The columns of a matrix as rows, in single precision."""
    if value.dtype not in (np.float32, np.float64):
        raise UserError(
            f"{path}: {key!r} is {value.dtype}: expected float32 or float64 (half precision rounds, integers "
            f"are usually another variable); save it with .astype('float32')"
        )
    if value.ndim != 2:
        raise UserError(f"{path}: {key!r} has shape {value.shape}: expected two axes")
    with np.errstate(over="ignore"):  # becomes Inf, which is refused by name later
        return np.ascontiguousarray(value.T, dtype=np.float32)


def _features(path: Path, value: np.ndarray, n_images: int) -> np.ndarray:
    features = _rows(path, "features", value)
    if len(features) != n_images:
        hint = ": they are transposed, save features.T" if features.shape[1] == n_images else ""
        raise UserError(f"{path}: features have shape {value.shape}: expected [width, {n_images} images]{hint}")
    return features


def _labels(files: Files, value: np.ndarray, n_classes: int) -> np.ndarray:
    labels = _whole_numbers(files.features, "labels", value)
    outside = np.flatnonzero((labels < 1) | (labels > n_classes))
    if len(outside):
        raise UserError(
            f"{files.features}: label {labels[outside[0]]} of image {outside[0] + 1} is outside the class table of "
            f"{files.splits.name}: expected 1 to {n_classes} (1-based)"
        )
    return labels - 1


def _locations(path: Path, name: str, value: np.ndarray, n_images: int) -> np.ndarray:
    """Sorted 0-based ids. The files hold unsigned 16-bit numbers: 0 - 1 would be 65535, so cast first."""
    locations = _whole_numbers(path, f"{name}_loc", value)
    outside = locations[(locations < 1) | (locations > n_images)]
    if len(outside):
        hint = "; they look 0-based, add 1" if 0 in outside else ""
        raise UserError(
            f"{path}: {name}_loc holds {listed(np.unique(outside), 3)}: expected image numbers 1 to {n_images}{hint}"
        )
    return np.sort(locations) - 1


def _whole_numbers(path: Path, key: str, value: np.ndarray) -> np.ndarray:
    flat = np.ravel(value)
    if flat.dtype.kind not in "iuf" or not np.all(np.isfinite(flat)) or not np.all(np.mod(flat, 1) == 0):
        raise UserError(f"{path}: {key!r} holds {flat.dtype} values that are not whole numbers")
    return flat.astype(np.int64)
