"""Class vectors of an encoder as semantics: joined by name, refused where they have seen what is unseen here."""

import json

import numpy as np
import pytest

from demjax.data import load
from demjax.data.text.encoded_vectors import split_sources

PLANTED = dict(n_classes=8, n_unseen=2, n_attributes=4, n_features=6, images_per_class=6)


def file_of(tmp_path, name="sje.npz", **changes):
    data = load("planted", planted=PLANTED)
    order = np.random.default_rng(0).permutation(8)
    arrays = {
        "classes": np.array(data.classes)[order],
        "class_vectors": np.arange(24, dtype=np.float32).reshape(8, 3)[order],
        "trained_on": np.array([data.classes[c] for c in data.seen]),
        "provenance": np.array(json.dumps({"encoder": "bow"})),
    } | changes
    np.savez(tmp_path / name, **{k: v for k, v in arrays.items() if v is not None})
    return tmp_path / name


def test_sources_are_told_apart(tmp_path):
    assert split_sources("att+sent") == ("att+sent", [])
    rest, files = split_sources("att+runs/a.npz+b.npz")
    assert rest == "att" and [str(f) for f in files] == ["runs/a.npz", "b.npz"]


def test_rows_are_joined_by_class_name(tmp_path):
    file = file_of(tmp_path)
    alone = load("planted", planted=PLANTED, semantics=str(file))
    np.testing.assert_array_equal(alone.semantics, np.arange(24).reshape(8, 3))
    assert alone.parts == {} and alone.sources["semantics"] == "sje.npz (bow, learned on the classes of trainval)"


def test_beside_the_table_of_the_set(tmp_path):
    plain = load("planted", planted=PLANTED)
    both = load("planted", planted=PLANTED, semantics=f"att+{file_of(tmp_path)}")
    np.testing.assert_array_equal(both.semantics, np.hstack([plain.semantics, np.arange(24).reshape(8, 3)]))
    assert list(both.parts.values()) == [4, 3] and both.sources["semantics"].startswith("planted+sje.npz")


def test_an_encoder_that_saw_unseen_classes_is_refused(tmp_path, refused):
    data = load("planted", planted=PLANTED)
    file = file_of(tmp_path, trained_on=np.array(data.classes))
    with refused("sje.npz was learned from images of 2 classes that are unseen in this split"):
        load("planted", planted=PLANTED, semantics=str(file))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (dict(classes=np.array([f"x{i}" for i in range(8)])), "has no vector of 8 classes"),
        (dict(class_vectors=np.zeros((8, 3), int)), "class_vectors are int64"),
        (dict(class_vectors=np.zeros((7, 3))), "expected one row for each class"),
        (dict(class_vectors=np.full((8, 3), np.nan, np.float32)), "NaN"),
        (dict(provenance=np.array("hello")), "its provenance is no JSON"),
        (dict(provenance=np.array("[]")), "its provenance is no JSON"),
        (dict(trained_on=np.array("x")), "expected one row for each class"),
        (dict(class_vectors=np.zeros((8, 0), np.float32)), "class_vectors are float32 (8, 0)"),
        (dict(provenance=None), "has no 'provenance'"),
        (dict(classes=np.array([{}] * 8)), "cannot be read (ValueError)"),  # objects are never unpickled
    ],
)
def test_bad_files(tmp_path, refused, changes, told):
    with refused(told):
        load("planted", planted=PLANTED, semantics=str(file_of(tmp_path, **changes)))


def test_no_file_a_torn_one_and_one_named_twice(tmp_path, refused):
    with refused("none.npz: no such file; python -m demjax.encode"):
        load("planted", planted=PLANTED, semantics=str(tmp_path / "none.npz"))
    whole = file_of(tmp_path)
    with refused("semantics name 'sje' twice"):
        load("planted", planted=PLANTED, semantics=f"{whole}+{whole}")
    whole.write_bytes(whole.read_bytes()[:200])
    with refused("sje.npz cannot be read"):
        load("planted", planted=PLANTED, semantics=str(whole))
