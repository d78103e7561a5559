import numpy as np
import pytest

from demjax.data import synthetic
from demjax.data.batches import class_sums, examples


@pytest.fixture(scope="module")
def dataset():
    return synthetic.plant(n_classes=9, n_unseen=2, n_attributes=4, n_features=6, images_per_class=7)


def test_examples_are_the_training_images_and_nothing_else(dataset):
    rows, ids = examples(dataset), dataset.splits["trainval"]
    np.testing.assert_array_equal(rows["features"][:-1], dataset.features[ids])
    np.testing.assert_array_equal(rows["label"][:-1], dataset.labels[ids])
    assert set(rows["label"][:-1]) == set(dataset.seen)
    assert rows["weight"][:-1].tolist() == [1] * len(ids) and not rows["scatter"].any()


@pytest.mark.parametrize("make", [examples, class_sums])
def test_the_last_row_is_empty(dataset, make):
    assert all(not np.any(value[-1]) for value in make(dataset).values())


def test_class_sums_by_loops(dataset):
    rows = class_sums(dataset)
    for row, c in enumerate(dataset.seen):
        own = [dataset.features[i].astype(float) for i in dataset.splits["trainval"] if dataset.labels[i] == c]
        mean = sum(own) / len(own)
        assert rows["label"][row] == c and rows["weight"][row] == len(own)
        np.testing.assert_allclose(rows["features"][row], mean, rtol=1e-6)
        assert rows["scatter"][row] == pytest.approx(sum(((x - mean) ** 2).sum() for x in own), rel=1e-6)


def test_both_give_the_same_least_squares_loss(dataset):
    """For any prototypes at all, in float64: sum_i ||x_i - f||^2 = sum_c n_c ||mean_c - f||^2 + scatter_c."""
    prototypes = np.random.default_rng(0).standard_normal((9, 6))

    def loss(rows):
        rows = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in rows.items()}
        squared = ((rows["features"] - prototypes[rows["label"]]) ** 2).sum(axis=1)
        return (rows["weight"] * squared + rows["scatter"]).sum()

    assert loss(class_sums(dataset)) == pytest.approx(loss(examples(dataset)), rel=1e-6)
