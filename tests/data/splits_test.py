import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demjax.data import splits

NAMES = ("ant", "bee", "cat", "dog")
LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3])


def good():
    """ant and bee are seen (bee is the val class), cat and dog unseen."""
    return {
        "trainval": np.array([0, 1, 3, 4]),
        "test_seen": np.array([2, 5]),
        "test_unseen": np.array([6, 7, 8, 9, 10]),
        "train": np.array([0, 1]),
        "val": np.array([3, 4]),
    }


@pytest.mark.parametrize(
    ("train", "val", "version"),
    [
        ([0, 1, 2], [3, 4, 5], "ps1"),  # the test_seen images 2 and 5 are in
        ([2, 1, 0], [5, 4, 3], "ps1"),  # in any order
        ([0, 1], [3, 4], "ps2"),
        ([0, 1], [4, 3], "ps2"),
        ([0, 1], [3], "custom"),
        ([0, 1, 2], [3, 4], "custom"),  # some test images are not all of them
        ([0, 1, 2], [3, 4, 5, 6], "custom"),
    ],
)
def test_version_by_content(train, val, version):
    assert splits.version_of(good() | {"train": np.array(train), "val": np.array(val)}) == version


@pytest.mark.parametrize("missing", ["train", "val"])
def test_version_without_lists(missing):
    ids = good()
    del ids[missing]
    assert splits.version_of(ids) == "rebuilt"


def test_clean_folds_of_both_versions_are_the_same():
    leaky = good() | {"train": np.array([2, 1, 0]), "val": np.array([3, 4, 5])}
    for ids in (leaky, good()):
        folds = splits.clean_folds(ids, LABELS, NAMES, None)
        assert {k: v.tolist() for k, v in folds.items()} == {"train": [0, 1], "val": [3, 4]}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_clean_folds_hold_no_test_image(seed):
    rng = np.random.default_rng(seed)
    role = rng.integers(0, 3, 40)  # of each image: trainval, test_seen, test_unseen
    ids = {k: np.flatnonzero(role == i) for i, k in enumerate(("trainval", "test_seen", "test_unseen"))}
    ids |= {"train": rng.permutation(40)[:20], "val": rng.permutation(40)[:9]}
    folds = splits.clean_folds(ids, np.zeros(40, int), ("one",), None)
    for k in ("train", "val"):
        assert set(folds[k].tolist()) == set(ids[k].tolist()) & set(ids["trainval"].tolist())


def test_folds_from_listed_classes():
    ids = {k: good()[k] for k in ("trainval", "test_seen", "test_unseen")}
    folds = splits.clean_folds(ids, LABELS, NAMES, {"bee", "cat"})  # cat has no image in trainval
    assert {k: v.tolist() for k, v in folds.items()} == {"train": [0, 1], "val": [3, 4]}


def test_folds_from_hashes_do_not_depend_on_the_order_of_classes():
    names = [f"animal {i}" for i in range(9)]
    expected = set(sorted(names[:8], key=lambda n: hashlib.sha256(n.encode()).digest())[:2])  # a quarter of 8 seen
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(9)
        classes = tuple(names[i] for i in order)
        labels = np.repeat(np.arange(9), 3)
        seen = [i for i, c in enumerate(labels) if classes[c] != "animal 8"]
        ids = {"trainval": np.array(seen), "test_seen": np.array([0]), "test_unseen": np.array([0])}
        folds = splits.clean_folds(ids, labels, classes, None)
        assert {classes[labels[i]] for i in folds["val"]} == expected
        assert sorted([*folds["train"].tolist(), *folds["val"].tolist()]) == seen


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.floats(0.05, 0.5), st.integers(0, 99))
def test_hold_out_takes_a_share_of_each_class(drawn, share, seed):
    labels = np.array(sorted(drawn * 2))  # two images or more of each
    ids = np.flatnonzero(labels >= 0)
    kept, held = splits.hold_out(ids, labels, share, seed)
    assert sorted([*kept.tolist(), *held.tolist()]) == ids.tolist()
    for c in set(labels.tolist()):
        n = int((labels == c).sum())
        assert int((labels[held] == c).sum()) == max(1, round(share * n))


def test_hold_out_follows_the_seed():
    labels = np.repeat([0, 1], 50)
    first, again, other = (splits.hold_out(np.arange(100), labels, 0.2, seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_hold_out_leaves_other_images_alone():
    kept, held = splits.hold_out(np.array([0, 1, 2]), LABELS, 0.3, 0)
    assert set(kept.tolist()) | set(held.tolist()) == {0, 1, 2}


def test_hold_out_of_a_single_image(refused):
    with refused("class 1 ", "1 training image"):
        splits.hold_out(np.array([0, 1, 3]), LABELS, 0.2, 0)


def test_good_splits_pass():
    splits.check_splits(good(), LABELS, NAMES)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"trainval": []}, ["trainval is empty"]),
        ({"test_seen": []}, ["test_seen is empty"]),
        ({"test_unseen": []}, ["test_unseen is empty"]),
        ({"test_seen": [2, 11]}, ["test_seen", "image 11", "0 to 10"]),
        ({"test_seen": [2, -1]}, ["test_seen", "image -1"]),
        ({"test_seen": [5, 2, 5]}, ["test_seen", "image 5", "twice"]),
        ({"trainval": [0, 1, 3, 4, 2]}, ["trainval", "test_seen", "the first is 2"]),
        ({"test_unseen": [6, 7, 8, 9, 10, 0]}, ["trainval", "test_unseen", "the first is 0"]),
        ({"test_seen": [2, 5, 6]}, ["test_seen", "test_unseen", "the first is 6"]),
        ({"val": [3, 4, 1]}, ["train", "val", "the first is 1"]),
        ({"trainval": [0, 1, 3, 4, 6], "test_unseen": [7, 8, 9, 10]}, ["both seen and unseen", "cat"]),
        ({"train": [0], "val": [1, 3, 4]}, ["train and in val", "ant"]),
        ({"test_unseen": [6, 7, 8], "test_seen": [2, 5, 9, 10]}, ["test_seen", "without a training image", "dog"]),
        ({"test_unseen": [6, 7, 8]}, ["without images", "dog"]),
        ({"trainval": [0, 1], "test_seen": [2], "val": []}, ["without images", "bee"]),
    ],
)
def test_broken_promises(changed, named, refused):
    with refused(*named):
        splits.check_splits(good() | {k: np.array(v, np.int64) for k, v in changed.items()}, LABELS, NAMES)


def test_empty_validation_folds_are_allowed():
    splits.check_splits(good() | {"train": np.array([], int), "val": np.array([], int)}, LABELS, NAMES)
