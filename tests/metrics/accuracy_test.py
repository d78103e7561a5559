import operator
from inspect import unwrap  # as outside pytest, types unchecked

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, recall_score, top_k_accuracy_score

from demjax import metrics
from demjax.checks import UserError


def counts_of(predicted, truth, n_classes, mask=None):
    return metrics.class_counts(jnp.array(predicted), jnp.array(truth), n_classes, mask)


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


def test_padded_rows_do_not_count():
    mask = jnp.array([True, True, False, False])
    counts = counts_of([0, 1, 1, 4], [0, 0, 1, -1], 4, mask)
    np.testing.assert_array_equal(counts.correct, [1, 0, 0, 0])
    np.testing.assert_array_equal(counts.total, [2, 0, 0, 0])


def test_per_class_differs_from_micro_on_unbalanced_classes():
    counts = counts_of([0] * 9 + [0], [0] * 9 + [1], 2)
    assert (metrics.per_class_accuracy(counts), metrics.micro_accuracy(counts)) == (0.5, 0.9)


@pytest.mark.parametrize("accuracy", [metrics.per_class_accuracy, metrics.micro_accuracy])
def test_no_images_is_an_error(accuracy):
    with pytest.raises(UserError, match="no images"):
        accuracy(metrics.ClassCounts(np.zeros(3), np.zeros(3)))


def test_harmonic_mean():
    assert metrics.harmonic_mean(0.0, 0.0) == 0.0
    assert metrics.harmonic_mean(0.0, 0.9) == 0.0
    assert metrics.harmonic_mean(0.196, 0.579) == pytest.approx(0.292, abs=1e-3)  # DEM on CUB, as published


def rank_by_loop(row, truth, ties):
    """The place of the truth when candidates are listed one by one."""
    behind = (lambda i: i) if ties == "lowest_id" else (lambda i: i == truth)  # pessimistic: last of its equals
    order = sorted(range(len(row)), key=lambda i: (-float(row[i]), behind(i)))
    return order.index(truth) + 1


tied_problem = st.integers(1, 12).flatmap(
    lambda c: st.lists(
        st.tuples(st.lists(st.integers(-2, 2), min_size=c, max_size=c), st.integers(0, c - 1), st.booleans()),
        min_size=1,
        max_size=12,
    )
)


@settings(deadline=None, max_examples=40)
@given(tied_problem, st.sampled_from(["lowest_id", "pessimistic"]))
def test_ranks_and_hits_equal_a_loop(rows, ties):
    scores, truth, mask = (np.array(x) for x in zip(*rows, strict=True))
    scores, n_classes, ks = scores.astype(np.float64), scores.shape[1], (1, 2, 5)
    ranks = metrics.truth_ranks(scores, truth, ties, mask)
    expected = [rank_by_loop(s, t, ties) if m else 0 for s, t, m in zip(scores, truth, mask, strict=True)]
    assert ranks.tolist() == expected
    if not mask.any():
        return
    counts = metrics.hit_counts(ranks, truth, ks, n_classes, mask)
    for k, micro, per_class in zip(
        ks, metrics.hit_at_k(counts, "micro"), metrics.hit_at_k(counts, "per_class"), strict=True
    ):
        hits = {c: [r <= k for r, t, m in zip(expected, truth, mask, strict=True) if m and t == c] for c in truth}
        assert micro == pytest.approx(np.mean([h for c in hits.values() for h in c]))
        assert per_class == pytest.approx(np.mean([np.mean(h) for h in hits.values() if h]))


def test_the_tie_rules_differ_where_all_scores_are_equal():
    scores, truth = np.zeros((4, 5)), np.array([0, 1, 2, 4])
    assert metrics.truth_ranks(scores, truth).tolist() == [1, 2, 3, 5]
    assert metrics.truth_ranks(scores, truth, "pessimistic").tolist() == [5, 5, 5, 5]  # DGP: score >= its own


def test_hits_equal_scikit_learn():
    rng = np.random.default_rng(1)
    scores, truth = rng.standard_normal((200, 9)), rng.integers(0, 9, 200)
    counts = metrics.hit_counts(metrics.truth_ranks(scores, truth), truth, (1, 3, 9), 9)
    expected = [top_k_accuracy_score(truth, scores, k=k) for k in (1, 3)] + [1.0]
    np.testing.assert_allclose(metrics.hit_at_k(counts, "micro"), expected)


def test_arrays_of_jax_give_the_same_ranks_and_numpy_keeps_float64():
    rng = np.random.default_rng(2)
    scores, truth = rng.integers(0, 4, (50, 7)).astype(np.float32), rng.integers(0, 7, 50)
    for ties in metrics.TIES:
        on_device = metrics.truth_ranks(jnp.array(scores), jnp.array(truth), ties)
        np.testing.assert_array_equal(on_device, metrics.truth_ranks(scores, truth, ties))
    close = np.array([[1.0, 1.0 + 1e-12]])
    assert metrics.truth_ranks(close, np.array([0])).tolist() == [2]  # float32 would call it a tie


def test_hit_counts_of_blocks_add_up():
    rng = np.random.default_rng(3)
    scores, truth, mask = rng.integers(0, 4, (60, 5)) * 1.0, rng.integers(0, 5, 60), rng.random(60) < 0.7

    def count(rows):
        ranks = metrics.truth_ranks(scores[rows], truth[rows], mask=mask[rows])
        return metrics.hit_counts(ranks, truth[rows], (1, 2), 5, mask[rows])

    parts = jax.tree.map(operator.add, count(slice(0, 25)), count(slice(25, 60)))
    jax.tree.map(np.testing.assert_array_equal, parts, count(slice(0, 60)))


def test_nan_is_refused_by_row_unless_masked():
    scores, truth = np.zeros((5, 3)), np.zeros(5, int)
    scores[3, 2] = np.nan
    for array in (scores, jnp.array(scores)):
        with pytest.raises(UserError, match="NaN in row 3:"):
            metrics.truth_ranks(array, truth)
        assert metrics.truth_ranks(array, truth, mask=np.arange(5) != 3).tolist() == [1, 1, 1, 0, 1]


def test_errors_say_what_is_wrong():
    scores, truth = np.zeros((2, 3)), np.array([0, 3])
    with pytest.raises(UserError, match="out of range in row 1: expected 0 to 2"):
        metrics.truth_ranks(scores, truth)
    with pytest.raises(UserError, match="did you mean 'pessimistic'"):
        metrics.truth_ranks(scores, np.array([0, 0]), "pesimistic")
    with pytest.raises(UserError, match="rank is below 1 in row 0"):
        metrics.hit_counts(np.array([0]), np.array([0]), (1,), 3)
    with pytest.raises(UserError, match="ks is"):
        metrics.hit_counts(np.array([1]), np.array([0]), (0, 1), 3)
    for average in ("micro", "per_class"):
        with pytest.raises(UserError, match="no images"):
            metrics.hit_at_k(metrics.hit_counts(np.zeros(0, int), np.zeros(0, int), (1,), 3), average)


@pytest.mark.parametrize("bad", [-1, 3])
def test_a_truth_that_is_no_class(bad):
    truth = jnp.array([0, bad])
    with pytest.raises(UserError, match="class id is out of range in row 1"):
        metrics.class_counts(jnp.array([0, 0]), truth, 3)
    counted = jax.jit(lambda t: metrics.class_counts(jnp.array([0, 0]), t, 3))(truth)  # where it cannot be looked at
    assert counted.total.tolist() == [1, 0, 0]
    masked = metrics.class_counts(jnp.array([0, 0]), truth, 3, jnp.array([True, False]))
    assert masked.total.tolist() == [1, 0, 0]


@pytest.mark.parametrize("pair", [(float("nan"), 0.2), (0.2, 1.5)])
def test_harmonic_mean_of_no_accuracies(pair):
    with pytest.raises(UserError, match="expected a number >= 0 and <= 1"):
        metrics.harmonic_mean(*pair)


@pytest.mark.parametrize("mask", [np.array([1, 1, 0]), np.array([True, False])])
def test_a_mask_is_one_boolean_a_row(mask):
    """0 and 1 would be read as the numbers of rows."""
    with pytest.raises(UserError, match="expected one boolean for each of 3 rows"):
        unwrap(metrics.rank_counts)(np.array([1, 2, 9]), 10, mask)
    with pytest.raises(UserError, match="expected one boolean for each of 3 rows"):
        unwrap(metrics.average_precision)(np.ones((3, 2), np.float32), np.ones((3, 2), int), mask=mask)
