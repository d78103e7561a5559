import operator
from inspect import unwrap  # as outside pytest, types unchecked

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from demjax import metrics
from demjax.checks import UserError


def problem(seed, n=30, c=6, ties=True):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-3, 4, (n, c)) if ties else rng.standard_normal((n, c))
    return scores.astype(np.float32), rng.choice([-1, 0, 1], (n, c), p=[0.3, 0.5, 0.2]).astype(np.int8)


def by_rank(scores, labels):
    """Sum over ranks of [rel] Prec@k / positives; equal scores in the order of their rows."""
    order = sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i))
    right, total = 0, 0.0
    for place, i in enumerate(order, start=1):
        if labels[i] == 1:
            right += 1
            total += right / place
    return total / right if right else np.nan


def by_sklearn(scores, labels):
    return average_precision_score(labels == 1, scores) if (labels == 1).any() else np.nan


ORACLES = {"stepped": by_sklearn, "lowest_id": by_rank}


def expected(scores, labels, entries, ties, mask):
    values = []
    for s, y in zip(scores.T, labels.T, strict=True):
        kept = mask & (y != 0) if entries == "verified" else mask
        values.append(ORACLES[ties](s[kept].astype(np.float64), y[kept]))
    return np.array(values)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9999), st.booleans(), st.sampled_from(["verified", "all"]), st.sampled_from(list(ORACLES)))
def test_equals_the_oracles(seed, tied, entries, ties):
    scores, labels = problem(seed, ties=tied)
    mask = np.random.default_rng(seed).random(30) < 0.8
    found = metrics.average_precision(np.where(mask[:, None], scores, np.nan), labels, entries, ties, mask)
    np.testing.assert_allclose(found, expected(scores, labels, entries, ties, mask), atol=1e-12)


@pytest.mark.parametrize("entries", ["verified", "all"])
def test_many_columns_and_rows_in_pieces(entries):
    scores, labels = problem(0, n=700, c=150)
    found = metrics.average_precision(jnp.array(scores), jnp.array(labels), entries)
    np.testing.assert_allclose(found, expected(scores, labels, entries, "stepped", np.ones(700, bool)), atol=1e-12)
    blocks = [
        metrics.average_precision(scores[:, i : i + 40], labels[:, i : i + 40], entries) for i in range(0, 150, 40)
    ]
    np.testing.assert_array_equal(np.concatenate(blocks), found)
    np.testing.assert_array_equal(metrics.average_precision(scores, labels, entries, workers=1), found)


def test_the_tie_rules_by_hand():
    scores, labels = np.zeros((4, 1)), np.array([[1], [-1], [-1], [1]])
    assert metrics.average_precision(scores, labels).tolist() == [0.5]  # one step: 2 of 4
    assert metrics.average_precision(scores, labels, ties="lowest_id").tolist() == [0.75]  # (1/1 + 2/4) / 2


def test_unverified_entries_are_left_out_or_negative():
    scores, labels = np.array([[4.0], [3], [2], [1]]), np.array([[0], [1], [-1], [1]])
    assert metrics.average_precision(scores, labels)[0] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.average_precision(scores, labels, "all")[0] == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_extreme_scores():
    scores, labels = np.array([[np.inf], [0.0], [-0.0], [-np.inf]]), np.array([[-1], [1], [-1], [1]])
    assert metrics.average_precision(scores, labels)[0] == pytest.approx((1 / 3 + 2 / 4) / 2)  # 0 and -0 are equal
    for ties in ORACLES:
        half = metrics.average_precision(jnp.array(scores, jnp.bfloat16), labels, ties=ties)
        np.testing.assert_array_equal(half, metrics.average_precision(scores, labels, ties=ties))


def test_float64_scores_keep_their_digits():
    scores, labels = np.array([[1.0], [1.0 + 1e-12]]), np.array([[1], [-1]])
    assert metrics.average_precision(scores, labels, ties="lowest_id").tolist() == [0.5]


def test_labels_without_positives():
    scores = np.array([[2.0, 2, 2], [1, 1, 1]])
    labels = np.array([[-1, -1, 0], [1, -1, 0]])  # AP 1/2; verified but no positive; not annotated at all
    ap = metrics.average_precision(scores, labels)
    np.testing.assert_array_equal(ap, [0.5, np.nan, np.nan])
    counts = metrics.ap_counts(ap, labels)
    means = {empty: metrics.mean_average_precision(counts, empty) for empty in ("kept", "annotated", "dropped")}
    assert means == pytest.approx({"kept": 0.5 / 3, "annotated": 0.25, "dropped": 0.5})


def test_counts_of_label_blocks_add_up():
    scores, labels = problem(1, c=20)
    parts = [
        metrics.ap_counts(metrics.average_precision(scores[:, s], labels[:, s]), labels[:, s])
        for s in (slice(0, 7), slice(7, 20))
    ]
    whole = metrics.ap_counts(metrics.average_precision(scores, labels), labels)
    np.testing.assert_allclose([float(x) for x in jax.tree.map(operator.add, *parts)], [float(x) for x in whole])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 9999), st.sampled_from(["verified", "all"]))
def test_image_average_precision_is_over_images(seed, entries):
    scores, labels = problem(seed, n=12, c=9)
    mask = np.random.default_rng(seed).random(12) < 0.8
    found = metrics.image_average_precision(np.where(mask[:, None], scores, np.nan), labels, entries, mask=mask)
    rows = expected(scores.T, labels.T, entries, "stepped", np.ones(9, bool))
    np.testing.assert_allclose(found, np.where(mask, rows, np.nan), atol=1e-12)
    counts = metrics.ap_counts(found, labels, mask, axis=1)
    kept = rows[mask]
    if (~np.isnan(kept)).any():
        assert metrics.mean_average_precision(counts, "dropped") == pytest.approx(np.nanmean(kept))
        assert metrics.mean_average_precision(counts, "kept") == pytest.approx(np.nan_to_num(kept).mean())


def test_errors_say_what_is_wrong():
    scores, labels = problem(2, n=200, c=70)
    broken = scores.copy()
    broken[150, 68] = np.nan
    for ap in (metrics.average_precision, metrics.image_average_precision):
        with pytest.raises(UserError, match="NaN in row 150:"):
            ap(broken, labels)
    with pytest.raises(UserError, match="no images"):
        metrics.average_precision(scores, labels, mask=np.zeros(200, bool))
    with pytest.raises(UserError, match="entries is 'verifed': did you mean 'verified'"):
        metrics.average_precision(scores, labels, "verifed")
    none = metrics.ap_counts(np.full(70, np.nan), np.zeros_like(labels))
    assert metrics.mean_average_precision(none) == 0.0
    for empty in ("annotated", "dropped"):
        with pytest.raises(UserError, match="mean AP of no labels"):
            metrics.mean_average_precision(none, empty)


def test_labels_that_do_not_fit():
    scores = np.ones((3, 2), np.float32)
    with pytest.raises(UserError, match="labels are NaN in row 1"):
        metrics.average_precision(scores, np.array([[1.0, 0], [np.nan, 0], [1, 1]]))
    with pytest.raises(UserError, match="expected one label for each score"):
        unwrap(metrics.average_precision)(scores, np.ones((3, 3), int))
    with pytest.raises(UserError, match="scores are int64"):
        unwrap(metrics.top_labels)(np.ones((3, 2), int), 1)
