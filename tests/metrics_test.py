import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, recall_score

from demjax import metrics


def counts_of(predicted, truth, n_classes):
    return metrics.class_counts(jnp.array(predicted), jnp.array(truth), n_classes)


def test_by_hand():
    counts = counts_of([0, 1, 1, 2], [0, 0, 1, 1], 4)
    np.testing.assert_array_equal(counts.correct, [1, 1, 0, 0])
    np.testing.assert_array_equal(counts.total, [2, 2, 0, 0])
    assert metrics.per_class_accuracy(counts) == 0.5  # classes 2 and 3 have no image and do not count
    assert metrics.micro_accuracy(counts) == 0.5


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60))
def test_equals_scikit_learn(pairs):
    predicted, truth = np.array(pairs).T
    counts = counts_of(predicted, truth, 7)
    per_class = recall_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0)
    assert metrics.per_class_accuracy(counts) == pytest.approx(per_class)
    assert metrics.micro_accuracy(counts) == pytest.approx(accuracy_score(truth, predicted))


def test_blocks_add_up():
    rng = np.random.default_rng(0)
    predicted, truth = rng.integers(0, 5, (2, 90))
    whole = counts_of(predicted, truth, 5)
    parts = [counts_of(predicted[i : i + 40], truth[i : i + 40], 5) for i in (0, 40, 80)]
    np.testing.assert_array_equal(whole.correct, sum(p.correct for p in parts))
    np.testing.assert_array_equal(whole.total, sum(p.total for p in parts))


def test_per_class_differs_from_micro_on_unbalanced_classes():
    counts = counts_of([0] * 9 + [0], [0] * 9 + [1], 2)
    assert (metrics.per_class_accuracy(counts), metrics.micro_accuracy(counts)) == (0.5, 0.9)


@pytest.mark.parametrize("accuracy", [metrics.per_class_accuracy, metrics.micro_accuracy])
def test_no_images_is_an_error(accuracy):
    with pytest.raises(ValueError, match="no images"):
        accuracy(metrics.ClassCounts(np.zeros(3), np.zeros(3)))


def test_harmonic_mean():
    assert metrics.harmonic_mean(0.0, 0.0) == 0.0
    assert metrics.harmonic_mean(0.0, 0.9) == 0.0
    assert metrics.harmonic_mean(0.196, 0.579) == pytest.approx(0.292, abs=1e-3)  # DEM on CUB, as published
