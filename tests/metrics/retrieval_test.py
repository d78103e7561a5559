import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demjax import metrics
from demjax.checks import UserError

ranks_and_mask = st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=30).filter(
    lambda rows: any(m for _, m in rows)
)


@settings(deadline=None, max_examples=50)
@given(ranks_and_mask)
def test_statistics_equal_the_plain_array(rows):
    ranks, mask = np.array([r for r, _ in rows]), np.array([m for _, m in rows])
    counts = metrics.rank_counts(np.where(mask, ranks, -1), 20, mask)
    plain = ranks[mask]
    np.testing.assert_allclose(
        metrics.recall_at_k(counts, (1, 5, 10, 99)), [(plain <= k).mean() for k in (1, 5, 10, 99)]
    )
    assert metrics.median_rank(counts) == np.median(plain)
    assert metrics.mean_rank(counts) == pytest.approx(plain.mean())
    assert metrics.median_rank(counts, "from_0") == np.median(plain - 1)  # DSVE
    assert metrics.median_rank(counts, "floor") == np.floor(np.median(plain - 1)) + 1  # VSE++


def test_by_hand():
    counts = metrics.rank_counts(jnp.array([1, 2, 7, 4]), 10)
    assert metrics.recall_at_k(counts).tolist() == [0.25, 0.75, 1.0]
    assert metrics.median_rank(counts) == 3.0 and metrics.mean_rank(counts) == 3.5
    even = metrics.rank_counts(np.array([1, 2]), 10)
    assert [metrics.median_rank(even, c) for c in ("from_1", "from_0", "floor")] == [1.5, 0.5, 1.0]


def test_rank_counts_of_blocks_add_up():
    ranks = np.random.default_rng(0).integers(1, 31, 100)
    parts = [metrics.rank_counts(ranks[i : i + 40], 30) for i in (0, 40, 80)]
    total = jax.tree.map(lambda *x: sum(x), *parts)
    np.testing.assert_array_equal(total.queries, metrics.rank_counts(ranks, 30).queries)


def test_rank_errors():
    with pytest.raises(UserError, match="rank is out of range in row 1, 2: expected 1 to 9"):
        metrics.rank_counts(np.array([1, 0, 10]), 9)
    empty = metrics.rank_counts(np.array([1, 2]), 9, np.zeros(2, bool))
    for statistic in (metrics.recall_at_k, metrics.median_rank, metrics.mean_rank):
        with pytest.raises(UserError, match="no queries"):
            statistic(empty)
    with pytest.raises(UserError, match="convention is 'form_1'"):
        metrics.median_rank(metrics.rank_counts(np.array([1]), 9), "form_1")


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), min_size=1))))
def test_pairing_equals_a_loop(case):
    n_images, images = case
    pairing = metrics.pair_captions(np.array(images), n_images)
    for i, row in enumerate(pairing.image_to_text):
        captions = [c for c, image in enumerate(images) if image == i]
        assert row.tolist() == captions + [-1] * (pairing.image_to_text.shape[1] - len(captions))
    assert pairing.text_to_image.tolist() == [[i] for i in images]
    assert pairing.image_to_text.shape[1] == max(images.count(i) for i in range(n_images))


def test_pairing_of_five_captions_each():
    pairing = metrics.pair_captions(np.arange(15) // 5, 3)
    np.testing.assert_array_equal(pairing.image_to_text, np.arange(15).reshape(3, 5))


def test_pairing_errors():
    with pytest.raises(UserError, match="out of range in row 2: expected 0 to 1"):
        metrics.pair_captions(np.array([0, 1, 2]), 2)
    with pytest.raises(UserError, match="no captions"):
        metrics.pair_captions(np.zeros(0, int), 2)


def test_recall_from_scores_through_the_pairing():
    """Caption retrieval of the field, in a loop: the best of the captions of an image counts."""
    rng = np.random.default_rng(1)
    scores, image = rng.standard_normal((6, 17)), rng.integers(0, 6, 17)
    image[:6] = np.arange(6)
    pairing = metrics.pair_captions(image, 6)
    ranks = []
    for row, positives in zip(scores, pairing.image_to_text, strict=True):
        order = np.argsort(-row).tolist()
        ranks.append(1 + min(order.index(p) for p in positives if p >= 0))
    counts = metrics.rank_counts(np.array(ranks), 17)
    by_hand = np.mean([any(image[j] == i for j in np.argsort(-scores[i])[:5]) for i in range(6)])
    assert metrics.recall_at_k(counts, (5,))[0] == pytest.approx(by_hand)


def test_folds_leave_an_incomplete_one_out():
    assert [len(range(5400)[f]) for f in metrics.sequential_folds(5400)] == [1000] * 5
    with pytest.raises(UserError, match="999 images do not fill a fold of 1000"):
        metrics.sequential_folds(999)


def test_precision_equals_a_loop_and_blocks_add_up():
    rng = np.random.default_rng(2)
    found, own, mask = rng.integers(0, 4, (9, 50)), rng.integers(0, 4, 9), rng.random(9) < 0.7
    ks = (1, 5, 10, 50)
    mask[:4], own[:4], own[4:] = True, 0, np.minimum(own[4:], 2)  # classes of different sizes, and one without queries
    expected = []
    for k in ks:
        rows = [[i for i in range(9) if mask[i] and own[i] == c] for c in range(5)]
        by_class = [np.mean([list(found[i][:k]).count(c) / k for i in of]) for c, of in enumerate(rows) if of]
        expected.append(np.mean(by_class))
    whole = metrics.precision_counts(found, own, 5, ks, mask)
    np.testing.assert_allclose(metrics.precision_at_k(whole), expected)
    a, b = (metrics.precision_counts(found[s], own[s], 5, ks, mask[s]) for s in (slice(0, 4), slice(4, 9)))
    np.testing.assert_allclose(metrics.precision_at_k(jax.tree.map(operator.add, a, b)), expected)


def test_precision_of_a_small_class_is_capped():
    found = np.array([[0, 0, 1, 1], [1, 1, 1, 0]])  # class 0 has two images, class 1 three; perfect lists
    at_4 = metrics.precision_at_k(metrics.precision_counts(found, np.array([0, 1]), 2, (4,)))
    assert at_4.tolist() == [0.625] == metrics.precision_ceiling(np.array([2, 3]), (4,)).tolist()


def test_precision_errors():
    with pytest.raises(UserError, match="k is 50 and the lists hold 10 items"):
        metrics.precision_counts(np.zeros((2, 10), int), np.zeros(2, int), 1)
    with pytest.raises(UserError, match="class id is out of range in row 1"):
        metrics.precision_counts(np.full((2, 10), -1), np.array([0, -1]), 1, (1,))
    none = metrics.precision_counts(np.zeros((2, 10), int), np.zeros(2, int), 1, (1,), np.zeros(2, bool))
    with pytest.raises(UserError, match="no queries"):
        metrics.precision_at_k(none)
    with pytest.raises(UserError, match="no classes"):
        metrics.precision_ceiling(np.zeros(0, int), (1,))
