"""Real split files: what is published, recognised by content. They hold no features: one number per image stands in."""

import numpy as np
import pytest
from scipy import io

from demjax.data import xlsa17
from demjax.data.matfile import read_mat

REAL = {  # folder: (name, version, trainval, test_seen, test_unseen, train, val images after cleaning)
    "splits/AWA1": ("AWA1", "ps1", 19832, 4958, 5685, 13460, 6372),
    "splits/AWA2": ("AWA2", "ps1", 23527, 5882, 7913, 16187, 7340),
    "splits/AWA2_ps2": ("AWA2", "ps2", 23527, 5882, 7913, 16187, 7340),
    "splits/SUN": ("SUN", "ps1", 10320, 2580, 1440, 9280, 1040),
    "splits/APY": ("APY", "ps2", 5932, 1483, 7924, 4906, 1026),
    "splits/FLO": ("FLO", "ps1", 5631, 1403, 1155, None, None),
    "cub": ("CUB", "ps1", 7057, 1764, 2967, 4702, 2355),
}


def labels_that_fit(table):
    """Every class gets images of its own kind, as the lists need it: seen, held for validation, or unseen."""
    loc = {k: np.ravel(v).astype(int) - 1 for k, v in table.items() if k.endswith("_loc")}
    n_images, n_classes = max(v.max() for v in loc.values()) + 1, table["att"].shape[1]
    unseen = max(2, n_classes // 4)
    val = max(2, n_classes // 4)
    groups = {"test_unseen_loc": np.arange(unseen), "val_loc": np.arange(unseen, unseen + val)}
    labels = np.zeros(n_images, int)
    rest = np.arange(unseen + val, n_classes)
    seen = np.union1d(loc["trainval_loc"], loc["test_seen_loc"])
    labels[seen] = rest[np.arange(len(seen)) % len(rest)]
    for role, classes in groups.items():
        own = np.intersect1d(loc[role], seen) if role == "val_loc" else loc[role]
        labels[own] = classes[np.arange(len(own)) % len(classes)]
    in_val = np.isin(labels, groups["val_loc"])
    test = loc["test_seen_loc"]  # a version-two file does not say which test images are of val classes: none here
    labels[test[in_val[test] & ~np.isin(test, loc["val_loc"])]] = rest[0]
    return labels


@pytest.mark.parametrize("folder", sorted(REAL))
def test_published_lists(folder, shared_data, tmp_path):
    name, version, trainval, test_seen, test_unseen, train, val = REAL[folder]
    source = shared_data / folder / "att_splits.mat"
    keys = ["att", "trainval_loc", "test_seen_loc", "test_unseen_loc", "train_loc", "val_loc"]
    table = read_mat(source, keys)
    labels = labels_that_fit(table)
    (tmp_path / "att_splits.mat").symlink_to(source)
    io.savemat(tmp_path / "res101.mat", {"features": np.ones((1, len(labels))), "labels": labels[:, None] + 1.0})
    dataset = xlsa17.read(name, xlsa17.find([tmp_path], name, "res101", "att"))
    sizes = {k: len(v) for k, v in dataset.splits.items()}
    assert dataset.version == version
    assert [sizes[k] for k in ("trainval", "test_seen", "test_unseen")] == [trainval, test_seen, test_unseen]
    if train:
        assert (sizes["train"], sizes["val"]) == (train, val)
    test = set(dataset.splits["test_seen"].tolist()) | set(dataset.splits["test_unseen"].tolist())
    assert not test & (set(dataset.splits["train"].tolist()) | set(dataset.splits["val"].tolist()))
    assert xlsa17.is_proposed_split(dataset) is (None if name == "FLO" else True)
    assert dataset.classes[0] == ("class_001" if name == "FLO" else str(dataset.classes[0]))


def test_both_versions_of_awa2_give_the_same_folds(shared_data):
    one, two = (
        read_mat(shared_data / f"splits/{f}/att_splits.mat", ["trainval_loc", "train_loc", "val_loc"])
        for f in ("AWA2", "AWA2_ps2")
    )
    for fold in ("train_loc", "val_loc"):
        np.testing.assert_array_equal(np.intersect1d(one[fold], one["trainval_loc"]), np.unique(two[fold]))


def test_the_trap_is_in_the_cub_file(shared_data):
    """Raw train and val of version one hold 1764 test images."""
    table = read_mat(shared_data / "cub/att_splits.mat", ["train_loc", "val_loc", "test_seen_loc"])
    raw = np.union1d(table["train_loc"], table["val_loc"])
    assert len(np.intersect1d(raw, table["test_seen_loc"])) == 1764
