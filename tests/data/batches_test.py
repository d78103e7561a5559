import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demjax.data import ClassSet, Indexed, batches, open_npy
from demjax.data.batches import class_sums, classes, examples


def dataset_of(features, labels, trainval):
    """One test image of class 0 and one unseen class, the last, go with the images given."""
    n, unseen = len(labels), int(max(labels)) + 1
    features = np.concatenate([features, np.full((2, features.shape[1]), 5e3)]).astype(np.float32)
    none = np.array([], np.int64)
    return ClassSet(
        name="toy",
        features=features,
        labels=np.array([*labels, labels[trainval[0]], unseen]),
        classes=tuple(f"c{i}" for i in range(unseen + 1)),
        semantics=np.zeros((unseen + 1, 1), np.float32),
        splits={
            "trainval": np.array(trainval),
            "test_seen": np.array([n]),
            "test_unseen": np.array([n + 1]),
            "train": none,
            "val": none,
        },
    )


def random_dataset(seed, n_classes=4, n=40, d=3, scale=1.0, offset=0.0):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    return dataset_of(rng.normal(offset, scale, (n, d)), labels, rng.permutation(n))


def loss(rows, outputs):
    """sum_i w_i ||x_i - f(label_i)||^2 + scatter_i, row by row in float64."""
    total = 0.0
    for x, label, weight, scatter in zip(*(rows[k] for k in ("features", "label", "weight", "scatter")), strict=True):
        total += float(weight) * float(np.square(x.astype(np.float64) - outputs[label]).sum()) + float(scatter)
    return total


def test_examples_by_hand():
    rows = examples(dataset_of(np.array([[1, 2], [3, 4], [5, 6]]), np.array([0, 1, 0]), [2, 0, 1])).columns
    assert rows["features"].tolist() == [[5, 6], [1, 2], [3, 4], [0, 0]]
    assert rows["label"].tolist() == [0, 0, 1, 0]
    assert rows["weight"].tolist() == [1, 1, 1, 0]
    assert rows["scatter"].tolist() == [0, 0, 0, 0]


def test_class_sums_by_hand():
    rows = class_sums(dataset_of(np.array([[1, 2], [3, 4], [5, 6]]), np.array([0, 1, 0]), [2, 0, 1])).columns
    assert rows["features"].tolist() == [[3, 4], [3, 4], [0, 0]]
    assert rows["label"].tolist() == [0, 1, 0]
    assert rows["weight"].tolist() == [2, 1, 0]
    assert rows["scatter"].tolist() == [16, 0, 0]  # 4 + 4 for each of two images


@pytest.mark.parametrize("how", ["examples", "class_sums"])
def test_rows_have_one_empty_row_and_the_types_of_the_engine(how):
    dataset = random_dataset(0)
    rows = getattr(batches, how)(dataset).columns
    assert {k: v.dtype.name for k, v in rows.items()} == {
        "features": "float32",
        "label": "int32",
        "weight": "float32",
        "scatter": "float32",
    }
    assert len({len(v) for v in rows.values()}) == 1
    assert all(not v[-1].any() for v in rows.values())
    assert rows["weight"].sum() == len(dataset.splits["trainval"])
    assert (rows["weight"][:-1] > 0).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 999), st.integers(1, 6), st.integers(1, 5))
def test_class_sums_are_exact_on_dyadic_numbers(seed, n_classes, d):
    """Small integers, class sizes that are powers of two: every number is exact in float32, so nothing may differ."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), 2 ** rng.integers(0, 4, n_classes))
    dataset = dataset_of(rng.integers(-20, 20, (len(labels), d)).astype(float), labels, rng.permutation(len(labels)))
    outputs = rng.integers(-8, 8, (n_classes, d)) / 4
    assert loss(class_sums(dataset).columns, outputs) == loss(examples(dataset).columns, outputs)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 999), st.sampled_from([1e-3, 1.0, 50.0]))
def test_class_sums_keep_loss_and_gradient(seed, scale):
    dataset = random_dataset(seed, scale=scale)
    outputs = np.random.default_rng(seed).normal(size=(5, 3)) * scale
    one, whole = examples(dataset).columns, class_sums(dataset).columns
    assert loss(whole, outputs) == pytest.approx(loss(one, outputs), rel=1e-6)
    for c in range(4):  # d/df of w ||x - f||^2 is 2 w (f - x)
        gradients = [
            sum(
                2 * r["weight"][i] * (outputs[c] - r["features"][i])
                for i in range(len(r["label"]))
                if r["label"][i] == c
            )
            for r in (one, whole)
        ]
        np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-4 * scale)


def test_scatter_survives_a_large_mean():
    """E[x^2] - E[x]^2 in float32 would give anything here; the answer is known in fractions."""
    x = np.array([[10_000.0], [10_000.5], [10_001.0], [10_002.5]])
    values = [Fraction(v) for v in x.ravel()]
    mean = sum(values) / 4
    rows = class_sums(dataset_of(x, np.zeros(4, int), [0, 1, 2, 3])).columns
    assert rows["features"][0, 0] == float(mean)
    assert rows["scatter"][0] == float(sum((v - mean) ** 2 for v in values))


def test_scatter_is_summed_in_double_precision():
    """Images a thousandth apart around 1000: float32 would round the mean by as much."""
    x = np.random.default_rng(0).normal(1000, 1e-3, (50, 1)).astype(np.float32)
    values = [Fraction(float(v)) for v in x.ravel()]
    mean = sum(values) / 50
    rows = class_sums(dataset_of(x, np.zeros(50, int), list(range(50)))).columns
    assert rows["scatter"][0] == pytest.approx(float(sum((v - mean) ** 2 for v in values)), rel=1e-6)


@pytest.mark.parametrize("how", ["examples", "class_sums"])
def test_no_test_image_in_any_row(how):
    assert np.abs(getattr(batches, how)(random_dataset(1)).columns["features"]).max() < 100  # test images hold 5000


def test_classes_by_hand():
    """Images 2 and 0 are of class 0, in the order of the split; image 1 is of class 1."""
    rows = classes(dataset_of(np.array([[1, 2], [3, 4], [5, 6]]), np.array([0, 1, 0]), [2, 0, 1]))
    assert isinstance(rows.columns["features"], Indexed)
    assert np.asarray(rows.columns["features"]).tolist() == [[5, 6], [1, 2], [3, 4], [0, 0]]
    assert rows.columns["label"].tolist() == [0, 0, 1, 0] and rows.columns["weight"].tolist() == [1, 1, 1, 0]
    assert rows.columns["image"].tolist() == [2, 0, 1, 0] and rows.group.tolist() == [0, 0, 1]
    types = {name: column.dtype.name for name, column in rows.columns.items()}
    assert types == {"features": "float32", "label": "int32", "weight": "float32", "image": "int32"}
    assert rows.group.dtype == np.int32 and rows.n_rows == 3


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 999))
def test_groups_ascend_and_hold_each_training_image_once(seed):
    dataset = random_dataset(seed)
    rows = classes(dataset)
    assert (np.diff(rows.group) >= 0).all() and set(rows.group.tolist()) == set(range(len(dataset.seen)))
    assert sorted(rows.columns["image"][:-1].tolist()) == sorted(dataset.splits["trainval"].tolist())
    for image, label, group in zip(rows.columns["image"][:-1], rows.columns["label"][:-1], rows.group, strict=True):
        assert dataset.labels[image] == label == dataset.seen[group]


def test_a_group_is_the_place_of_a_class_among_the_seen_ones():
    """Classes 0 and 1 are unseen here, so that class 3 is the second seen one."""
    dataset = random_dataset(1)
    unseen = np.isin(dataset.labels, [0, 1, 4])
    roles = {"trainval": np.flatnonzero(~unseen)[1:], "test_seen": np.flatnonzero(~unseen)[:1]}
    roles |= {"test_unseen": np.flatnonzero(unseen)}
    rows = classes(dataclasses.replace(dataset, splits=dict(dataset.splits) | roles))
    assert set(zip(rows.columns["label"][:-1].tolist(), rows.group.tolist(), strict=True)) == {(2, 0), (3, 1)}


def test_what_a_row_stands_for():
    rows = [how(random_dataset(0)) for how in (examples, class_sums, classes)]
    assert [x.noun for x in rows] == ["images", "classes", "classes"]
    assert [x.streams for x in rows] == [True, False, False]
    assert [x.group is None for x in rows] == [True, True, False]
    assert [x.n_rows for x in rows] == [40, 4, 40]


def test_a_mapped_file_gives_the_same_rows(tmp_path):
    plain = random_dataset(0)
    np.save(tmp_path / "x.npy", plain.features)
    mapped = dataclasses.replace(plain, features=open_npy(tmp_path / "x.npy"))
    assert isinstance(examples(mapped).columns["features"], Indexed)
    for how in (examples, class_sums, classes):
        one, other = how(mapped).columns, how(plain).columns
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].shape == other[name].shape and one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(np.asarray(one[name]), np.asarray(other[name]))
