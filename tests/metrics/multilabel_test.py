import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from demjax import metrics
from demjax.checks import UserError
from demjax.metrics import multilabel as module


def problem(seed, n=25, c=8, positives=0.2):
    """Scores with ties and with -inf."""
    rng = np.random.default_rng(seed)
    scores = rng.choice([-np.inf, -1, 0, 0.5, 1, 2], (n, c)).astype(np.float32)
    return scores, rng.choice([-1, 0, 1], (n, c), p=[0.3, 0.7 - positives, positives]).astype(np.int8)


def top_by_loop(row, k):
    return sorted(range(len(row)), key=lambda j: (-float(row[j]), j))[:k]


def chosen_by_loop(scores, k):
    chosen = np.zeros(scores.shape, bool)
    for i, row in enumerate(scores):
        chosen[i, top_by_loop(row, k)] = True
    return chosen


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 9999), st.integers(1, 8))
def test_top_labels_equal_a_loop(seed, k):
    scores, _ = problem(seed)
    assert metrics.top_labels(scores, k).tolist() == [top_by_loop(row, k) for row in scores]
    assert (
        metrics.top_labels(jnp.array(scores), k).tolist() == metrics.top_labels(scores.astype(np.float64), k).tolist()
    )


def test_passes_and_the_sort_give_the_same(monkeypatch):
    scores, _ = problem(0, n=30, c=90)
    found = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(module, "PASSES", share)
        found.append([metrics.top_labels(scores, k) for k in (1, 20, 90)])
    jax.tree.map(np.testing.assert_array_equal, *found)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 9999))
def test_f1_equals_scikit_learn(seed):
    scores, labels = problem(seed)
    mask = np.random.default_rng(seed).random(25) < 0.8
    mask[0], labels[0, 0], ks = True, 1, (3, 5)
    counts = metrics.topk_counts(np.where(mask[:, None], scores, np.nan), labels, ks, mask)
    for average in ("micro", "macro"):
        found = np.stack(metrics.f1_at_k(counts, average))
        for i, k in enumerate(ks):
            chosen, truth = chosen_by_loop(scores[mask], k), labels[mask] == 1
            expected = precision_recall_fscore_support(truth, chosen, average=average, zero_division=0)[:3]
            np.testing.assert_allclose(found[:, i], expected, atol=1e-12)


def test_by_hand():
    scores, labels = np.array([[3.0, 2, 1], [1, 1, 1]]), np.array([[1, 0, 1], [-1, 1, 1]])
    found = metrics.f1_at_k(metrics.topk_counts(scores, labels, (1, 2)))
    np.testing.assert_allclose(found.precision, [1 / 2, 2 / 4])  # the tie of row 1 goes to label 0, then 1
    np.testing.assert_allclose(found.recall, [1 / 4, 2 / 4])
    np.testing.assert_allclose(found.f1, [1 / 3, 1 / 2])


def test_a_wrong_tie_rule_gives_another_number():
    scores, labels = np.zeros((4, 3)), np.array([[1, 0, 0]] * 4)
    right = metrics.f1_at_k(metrics.topk_counts(scores, labels, (1,)))
    mutant = metrics.f1_at_k(metrics.topk_counts(scores, labels[:, ::-1], (1,)))  # as if ties went to the highest id
    assert (right.f1[0], mutant.f1[0]) == (1.0, 0.0)


def test_published_rows_agree_with_the_definition():
    """C3-MLZSL, csv of the repository: P@3 29.75, R@3 37.00 give the F1@3 of 32.98 it lists."""
    images, positives, right = 10_000, 24_122, 8_925  # 8925 / 30000 = .2975, 8925 / 24122 = .3700
    counts = metrics.TopKCounts(np.array([[right]]), np.array([[3 * images]]), np.array([positives]), np.array(images))
    assert 100 * metrics.f1_at_k(counts).f1[0] == pytest.approx(32.98, abs=0.01)


def test_counts_of_blocks_add_up(monkeypatch):
    scores, labels = problem(3, n=90)
    whole = metrics.topk_counts(scores, labels)
    a, b = (metrics.topk_counts(scores[s], labels[s]) for s in (slice(0, 37), slice(37, 90)))
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(operator.add, a, b), whole)
    monkeypatch.setattr(module, "ROWS", 7)
    jax.tree.map(np.testing.assert_array_equal, metrics.topk_counts(scores, labels), whole)


def test_scores_are_not_written_over():
    scores, labels = problem(4)
    before, marks = scores.copy(), labels.copy()
    metrics.multilabel_metrics(scores, labels, "lesa")
    np.testing.assert_array_equal(scores, before)
    np.testing.assert_array_equal(labels, marks)


def test_image_filters():
    labels = np.array([[0, -1], [1, 0], [-1, 1], [0, 0]])
    assert metrics.image_filter(labels).tolist() == [True] * 4
    assert metrics.image_filter(labels, "with_positives").tolist() == [False, True, True, False]
    assert metrics.image_filter(labels[:, :1], "with_positives").tolist() == [False, True, False, False]  # of its own


def protocol_by_loop(scores, labels, name, k):
    """Section 4 of the survey of code bases, spelt out for each."""
    if name in ("biam_open_images", "sdl"):
        rows = [i for i in range(len(labels)) if (labels[i] == 1).any()]
        scores, labels = scores[rows], labels[rows]
    aps = []
    for s, y in zip(scores.T, labels.T, strict=True):
        if name != "sdl":
            s, y = s[y != 0], y[y != 0]
        if name == "biam_open_images" and len(y) == 0:
            continue
        aps.append(average_precision_score(y == 1, s) if (y == 1).any() else 0.0)
    chosen, truth = chosen_by_loop(scores, k), labels == 1
    tp = (chosen & truth).sum()
    p, r = tp / (k * len(scores)), tp / truth.sum()
    return {"map": np.mean(aps), f"p@{k}": p, f"r@{k}": r, f"f1@{k}": 2 * p * r / (p + r) if p + r else 0.0}


@pytest.mark.parametrize("name", list(metrics.PROTOCOLS))
def test_protocols_equal_a_loop(name):
    scores, labels = problem(5, n=40, c=12, positives=0.05)
    scores = np.maximum(scores, -5)  # scikit-learn takes no infinity
    labels[:, 0], labels[:, 1] = 0, np.where(labels[:, 1] == 1, -1, labels[:, 1])  # not annotated; no positive
    found = metrics.multilabel_metrics(scores, labels, name, (3,))
    assert found == pytest.approx(protocol_by_loop(scores, labels, name, 3), abs=1e-12)


def test_protocols_differ():
    scores, labels = problem(6, n=60, c=12, positives=0.05)
    labels[:, 0] = 0
    values = {
        round(metrics.multilabel_metrics(scores, labels, p)["map"], 12) for p in ("lesa", "biam_open_images", "sdl")
    }
    assert len(values) == 3


def test_errors_say_what_is_wrong():
    scores, labels = problem(7)
    broken = scores.copy()
    broken[21, 3] = np.nan
    for wrong in (lambda: metrics.topk_counts(broken, labels), lambda: metrics.top_labels(broken, 2)):
        with pytest.raises(UserError, match="NaN in row 21:"):
            wrong()
    with pytest.raises(UserError, match="K is 9 with 8 labels"):
        metrics.topk_counts(scores, labels, (3, 9))
    with pytest.raises(UserError, match="ks is"):
        metrics.topk_counts(scores, labels, ())
    with pytest.raises(UserError, match="F1 of no images"):
        metrics.f1_at_k(metrics.topk_counts(scores, labels, mask=np.zeros(25, bool)))
    with pytest.raises(UserError, match="without positives"):
        metrics.f1_at_k(metrics.topk_counts(scores, np.zeros_like(labels)))
    with pytest.raises(UserError, match="did you mean 'lesa'"):
        metrics.multilabel_metrics(scores, labels, "les")
