"""Real split files: what is published, recognised by content. They hold no features: one number per image stands in."""

import hashlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from scipy import io

from demjax.checks import UserError
from demjax.data import load
from demjax.data.sources import xlsa17
from demjax.data.sources.matfile import read_mat

ROLES = ("trainval", "test_seen", "test_unseen", "train", "val")
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


@pytest.mark.parametrize("folder", sorted(k for k in REAL if not k.endswith("FLO")))
def test_listed_digests_are_those_of_the_files(folder, shared_data):
    """Computed from the 1-based lists as scipy reads them, by nothing of demjax."""
    raw = io.loadmat(shared_data / folder / "att_splits.mat")
    sha = hashlib.sha256()
    for key in ("trainval_loc", "test_seen_loc", "test_unseen_loc"):
        for number in sorted(raw[key].ravel().tolist()):
            sha.update(int(number).to_bytes(8, "little"))
    assert xlsa17.PROPOSED_SPLITS[REAL[folder][0]] == sha.hexdigest()[:16]


@pytest.mark.parametrize("folder", sorted(REAL))
def test_attributes_have_norm_one_and_are_not_transposed(folder, shared_data):
    att = read_mat(shared_data / folder / "att_splits.mat", ["att"])["att"]
    widths = {"AWA1": (85, 50), "AWA2": (85, 50), "SUN": (102, 717), "APY": (64, 32), "FLO": (1024, 102)}
    assert att.shape == (widths | {"CUB": (312, 200)})[REAL[folder][0]]
    if not folder.endswith("FLO"):  # sentence embeddings
        np.testing.assert_allclose(np.linalg.norm(att, axis=0), 1, rtol=1e-12)


def with_one_number_per_image(folder, source, labels):
    for file in source.glob("*_splits.mat"):
        (folder / file.name).symlink_to(file)
    numbers = np.arange(len(labels), dtype=np.float32)[None]
    io.savemat(folder / "res101.mat", {"features": numbers, "labels": labels.reshape(-1, 1)})
    return folder


def test_flowers_have_numbers_for_names(shared_data, tmp_path, data_dir):
    source = shared_data / "splits/FLO"
    table = read_mat(source / "att_splits.mat", ["att"], [f"{k}_loc" for k in ROLES])
    folder = with_one_number_per_image(tmp_path, source, labels_that_fit(table) + 1.0)
    dataset = load("FLO", dir=str(folder))
    assert dataset.classes == tuple(f"class_{i:03d}" for i in range(1, 103))
    assert xlsa17.is_proposed_split(dataset) is None


def test_word_vectors_of_awa2(shared_data, tmp_path):
    source = shared_data / "splits/AWA2_ps2"
    table = read_mat(source / "att_splits.mat", ["att", "wv"], [f"{k}_loc" for k in ROLES])
    folder = with_one_number_per_image(tmp_path, source, labels_that_fit(table) + 1.0)
    dataset = xlsa17.read("AWA2", xlsa17.find([folder], "AWA2", "res101", "wv"))
    assert dataset.semantics.shape == (50, 1000)
    np.testing.assert_array_equal(dataset.semantics, table["wv"].T.astype(np.float32))
    assert {"horse", "giraffe", "blue+whale"} <= set(dataset.classes)


def test_birds_with_their_own_labels(shared_data, tmp_path, data_dir):
    """The one set whose labels are here: classes, not only images, are where the protocol wants them."""
    source = shared_data / "cub"
    labels = io.loadmat(source / "vgg19.mat", variable_names=["labels"])["labels"].ravel().astype(int)
    raw = {k: v.ravel().astype(int) for k, v in io.loadmat(source / "att_splits.mat").items() if k.endswith("_loc")}
    folder = with_one_number_per_image(tmp_path, source, labels.astype(float))
    dataset = load("CUB", dir=str(folder), split="ps1")
    assert xlsa17.is_proposed_split(dataset) is True
    assert dataset.classes[0] == "001.Black_footed_Albatross" and len(set(dataset.classes)) == 200
    of = {role: {int(labels[v - 1]) - 1 for v in raw[f"{role}_loc"]} for role in ROLES}
    assert set(dataset.seen.tolist()) == of["trainval"] and len(dataset.seen) == 150
    assert set(dataset.unseen.tolist()) == of["test_unseen"] and len(dataset.unseen) == 50
    view = dataset.validation_view()
    assert (len(view.seen), len(view.unseen)) == (100, 50)
    images = view.features[:, 0].astype(int) + 1
    assert set(images.tolist()) == set(raw["trainval_loc"].tolist())
    assert {dataset.classes.index(view.classes[c]) for c in view.unseen} == of["val"]
    sentences = load("CUB", dir=str(folder), semantics="sent")
    assert sentences.semantics.shape == (200, 1024)
    assert sentences.fingerprints["splits"] == dataset.fingerprints["splits"]
    with pytest.raises(UserError, match="ps1, not ps2"):
        load("CUB", dir=str(folder), split="ps2")


def test_a_fetched_archive_with_the_real_lists_passes_for_published(shared_data, tmp_path, data_dir, monkeypatch):
    labels = io.loadmat(shared_data / "cub" / "vgg19.mat", variable_names=["labels"])["labels"].astype(float)
    inside = tmp_path / "fetched" / "xlsa17" / "data" / "CUB"
    inside.mkdir(parents=True)
    with_one_number_per_image(inside, shared_data / "cub", labels)
    monkeypatch.setattr(
        tfds.download.DownloadManager, "download_and_extract", lambda self, url: str(tmp_path / "fetched")
    )
    assert load("CUB").version == "ps1"
    with pytest.raises(UserError, match="is not the published split of CUB"):
        monkeypatch.setitem(xlsa17.PROPOSED_SPLITS, "CUB", "0" * 16)
        load("CUB", split="ps1")  # another config, so it is prepared anew
