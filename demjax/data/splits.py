"""The split versions of the benchmark files, and validation folds that hold no test image."""

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from demjax.checks import UserError, listed

_DISJOINT = (("trainval", "test_seen"), ("trainval", "test_unseen"), ("test_seen", "test_unseen"), ("train", "val"))


def version_of(ids: Mapping[str, np.ndarray]) -> str:
    """Which published version the raw lists are, recognised by content.

    `ps1`: train and val together are trainval *and* test_seen, so training on them leaks test images;
    `ps2`: together they are trainval; `rebuilt`: the file has no train / val lists; else `custom`.
    """
    if "train" not in ids or "val" not in ids:
        return "rebuilt"
    union = ids_of(ids["train"], ids["val"])
    if np.array_equal(union, ids_of(ids["trainval"])):
        return "ps2"
    if np.array_equal(union, ids_of(ids["trainval"], ids["test_seen"])):
        return "ps1"
    return "custom"


def clean_folds(
    ids: Mapping[str, np.ndarray], labels: np.ndarray, classes: tuple[str, ...], val_classes: set[str] | None
) -> dict[str, np.ndarray]:
    """`train` and `val` with disjoint classes and without any test image, whatever the version.

    Both are cut to trainval. Where the file has none, `val_classes` (its text lists) make them; where it
    has neither, a quarter of the seen classes is drawn by the SHA-256 of their names: the same on every
    machine, whatever the order of the classes.
    """
    trainval = ids_of(ids["trainval"])
    if "train" in ids and "val" in ids:
        return {k: _in_both(ids[k], trainval) for k in ("train", "val")}
    seen = [classes[c] for c in classes_of(trainval, labels)]
    if val_classes is None:
        by_hash = sorted(seen, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        val_classes = set(by_hash[: max(1, len(seen) // 4)])
    is_val = np.isin(labels[trainval], [i for i, name in enumerate(classes) if name in val_classes])
    return {"train": trainval[~is_val], "val": trainval[is_val]}


def other_fold(
    trainval: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], val: np.ndarray, fold: int
) -> tuple[np.ndarray, np.ndarray]:
    """(train, val) with as many held-out classes as `val` has, drawn by the SHA-256 of fold and name."""
    seen = classes_of(trainval, labels)
    by_hash = sorted(seen, key=lambda c: hashlib.sha256(f"{fold} {classes[c]}".encode()).hexdigest())
    is_val = np.isin(labels[trainval], by_hash[: len(classes_of(val, labels))])
    return trainval[~is_val], trainval[is_val]


def by_class(ids: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(class, its images among `ids` in their order), class after class; one sort, however many classes."""
    label = labels[ids]
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[order], prepend=-1))
    for part in np.split(order, starts[1:]):
        if len(part):
            yield int(label[part[0]]), ids[part]


def classes_of(ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The classes of images `ids`, ascending."""
    return np.flatnonzero(np.bincount(labels[ids]))


def ids_of(*parts: np.ndarray, but: np.ndarray | None = None) -> np.ndarray:
    """Images (>= 0) of all `parts` without those of `but`, ascending, each once; by marks: there may be millions."""
    but = np.zeros(0, np.int64) if but is None else but
    marks = np.zeros(max((int(x.max()) + 1 for x in (*parts, but) if len(x)), default=0), bool)
    for ids in parts:
        marks[ids] = True
    marks[but] = False
    return np.flatnonzero(marks)


def _in_both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Images of a and of b, ascending."""
    return ids_of(a, but=ids_of(a, but=b))


def hold_out(
    ids: np.ndarray, labels: np.ndarray, share: float, seed: int, classes: tuple[str, ...] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Splits image ids into (kept, held out), taking `share` of each class, at least one image of it.

    Raises a UserError for a class of a single image: nothing would be left to train on.
    """
    rng = np.random.default_rng(seed)
    held = []
    for c, of_class in by_class(ids, labels):
        if len(of_class) < 2:
            name = repr(classes[c]) if classes else c
            raise UserError(f"class {name} has 1 training image: expected 2 or more to hold one out")
        held.append(rng.permutation(of_class)[: max(1, round(share * len(of_class)))])
    held_out = np.sort(np.concatenate(held))
    return ids_of(ids, but=held_out), held_out


def check_splits(splits: Mapping[str, np.ndarray], labels: np.ndarray, classes: tuple[str, ...]) -> None:
    """Raises a UserError for images or classes that break a promise of ClassSet about its splits."""
    names = np.array(classes)
    for name, ids in splits.items():
        if len(ids) == 0 and name in ("trainval", "test_seen", "test_unseen"):
            raise UserError(f"split {name} is empty: expected at least one image")
        outside = ids[(ids < 0) | (ids >= len(labels))]
        if len(outside):
            raise UserError(f"split {name} names image {outside[0]} (0-based): expected 0 to {len(labels) - 1}")
        if len(ids_of(ids)) != len(ids):
            first = next(i for i, n in zip(*np.unique(ids, return_counts=True), strict=True) if n > 1)
            raise UserError(f"split {name} lists image {first} (0-based) twice")
    for a, b in _DISJOINT:
        both = _in_both(splits[a], splits[b])
        if len(both):
            raise UserError(f"{len(both)} images are in both {a} and {b}, the first is {both[0]} (0-based)")
    of = {name: classes_of(ids, labels) for name, ids in splits.items()}
    for a, b in (("trainval", "test_unseen"), ("train", "val")):
        both = np.intersect1d(of[a], of[b])
        if len(both):
            raise UserError(f"classes both in {a} and in {b}, so both seen and unseen: {listed(names[both])}")
    unknown = np.setdiff1d(of["test_seen"], of["trainval"])
    if len(unknown):
        raise UserError(f"test_seen has classes without a training image: {listed(names[unknown])}")
    idle = np.setdiff1d(np.arange(len(classes)), np.union1d(of["trainval"], of["test_unseen"]))
    if len(idle):
        raise UserError(
            f"classes without images: {listed(names[idle])}; every class needs images in trainval (seen) "
            "or in test_unseen (unseen): add them or take the class out of the class table"
        )
