import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demjax.checks import UserError
from demjax.data import splits

TRAINVAL, TEST_SEEN = np.array([0, 1, 4, 5]), np.array([2, 6])


def ids(train, val):
    return {"trainval": TRAINVAL, "test_seen": TEST_SEEN, "train": np.array(train), "val": np.array(val)}


def test_versions_by_content():
    assert splits.version_of(ids([0, 1, 2], [4, 5, 6])) == "ps1"
    assert splits.version_of(ids([0, 1], [5, 4])) == "ps2"
    assert splits.version_of(ids([0, 1], [5])) == "custom"
    assert splits.version_of({"trainval": TRAINVAL, "test_seen": TEST_SEEN}) == "rebuilt"


def test_clean_folds_of_version_one_are_those_of_version_two():
    labels, classes = np.array([0, 0, 0, 0, 1, 1, 1]), ("a", "b")
    one = splits.clean_folds(ids([0, 1, 2], [4, 5, 6]), labels, classes, None)
    two = splits.clean_folds(ids([0, 1], [4, 5]), labels, classes, None)
    for fold in ("train", "val"):
        assert one[fold].tolist() == two[fold].tolist() == {"train": [0, 1], "val": [4, 5]}[fold]


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 9), st.integers(0, 999))
def test_rebuilt_folds_do_not_depend_on_the_order_of_classes(n_classes, seed):
    rng = np.random.default_rng(seed)
    names = [f"name {i}" for i in range(n_classes)]
    labels = np.repeat(np.arange(n_classes), 3)
    order = rng.permutation(n_classes)
    shuffled = tuple(names[i] for i in order)
    position = np.argsort(order)  # where class i of the first table stands in the second
    lists = {"trainval": np.arange(len(labels)), "test_seen": np.array([], int)}
    first = splits.clean_folds(lists, labels, tuple(names), None)
    second = splits.clean_folds(lists, position[labels], shuffled, None)
    np.testing.assert_array_equal(first["val"], second["val"])
    assert len(np.unique(labels[first["val"]])) == max(1, n_classes // 4)
    assert not set(labels[first["val"]]) & set(labels[first["train"]])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(2, 12), min_size=1, max_size=6), st.floats(0.05, 0.5), st.integers(0, 99))
def test_hold_out_takes_its_share_of_every_class(sizes, share, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    kept, held = splits.hold_out(np.arange(len(labels)), labels, share, seed)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    for c, size in enumerate(sizes):
        assert (labels[held] == c).sum() == max(1, round(share * size))


def test_hold_out_of_a_single_image():
    with pytest.raises(UserError, match="1 training image"):
        splits.hold_out(np.array([0]), np.array([0]), 0.2, 0)
