import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demjax.checks import UserError
from demjax.search import TIES, nearest, ranks

from . import oracle


def whole(seed, *shape):
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32)


def some_positives(n_queries, n_gallery, most, seed=0):
    rng = np.random.default_rng(seed)
    rows = [rng.choice(n_gallery, most, replace=False) for _ in range(n_queries)]
    positives = np.array(rows)
    for i, n in enumerate(rng.integers(1, most + 1, n_queries)):
        positives[i, n:] = -1
    return positives


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([1, 7]), st.sampled_from([3, 12]), st.sampled_from(sorted(TIES)), st.integers(0, 999))
def test_equals_looking_at_every_row(n_queries, n_gallery, ties, seed):
    queries, gallery = whole(seed, n_queries, 2), whole(seed + 1, n_gallery, 2)
    positives = some_positives(n_queries, n_gallery, 3, seed)
    expected = oracle.ranks(queries, gallery, positives, "dot", ties)
    np.testing.assert_array_equal(ranks(queries, gallery, positives, "dot", ties=ties), expected)


@pytest.mark.parametrize("ties", sorted(TIES))
@pytest.mark.parametrize("score", ["euclidean"])
def test_many_tiles(ties, score, mesh, small_tiles):
    queries, gallery = whole(0, 70, 4), whole(1, 600, 4)
    positives = some_positives(70, 600, 5)
    for n in (70, 3):
        found = ranks(queries[:n], gallery, positives[:n], score, mesh, ties=ties)
        np.testing.assert_array_equal(found, oracle.ranks(queries[:n], gallery, positives[:n], score, ties))


def test_several_vectors_per_query(mesh, small_tiles):
    queries, gallery = whole(0, 20, 3, 4), whole(1, 300, 4)
    positives = some_positives(20, 300, 2)
    found = ranks(queries, gallery, positives, "euclidean", mesh)
    np.testing.assert_array_equal(found, oracle.ranks(queries, gallery, positives, "euclidean", "lowest_id"))


def test_agrees_with_the_list_of_neighbours_bit_for_bit(any_mesh):
    """Real numbers: a score counted twice with different rounding would put the positive off by one."""
    rng = np.random.default_rng(0)
    queries, gallery = rng.standard_normal((530, 40), np.float32), rng.standard_normal((900, 40), np.float32)
    gallery[500:] = gallery[:400]  # exact copies, one of them positive
    positives = some_positives(530, 900, 3)
    ids = nearest(queries, gallery, 900, "cosine").ids
    place = [min(np.flatnonzero(np.isin(row, own[own >= 0]))) + 1 for row, own in zip(ids, positives, strict=True)]
    np.testing.assert_array_equal(ranks(queries, gallery, positives, "cosine", any_mesh), place)


def test_tie_rules_by_hand():
    query, gallery = np.float32([[1]]), np.float32([[0], [1], [1], [1], [2]])
    told = {ties: ranks(query, gallery, np.array([[2, -1]]), "dot", ties=ties).tolist() for ties in TIES}
    assert told == {"lowest_id": [3], "optimistic": [2], "pessimistic": [4]}
    both = ranks(query, gallery, np.array([[3, 1]]), "dot", ties="pessimistic")
    assert both.tolist() == [3]  # behind rows 4 and 2, not behind the other positive


@pytest.mark.parametrize(
    ("positives", "told"),
    [
        ([[0], [5]], "positives row 1 names gallery row 5: expected 0 to 4"),
        ([[-2], [0]], "row 0 names gallery row -2"),
        ([[0, -1], [-1, -1]], "row 1 is .-1, -1.: expected at least one id"),
        ([[0, 1], [2, 2]], "row 1 is .2, 2.: expected at least one id, each once"),
        ([[0]], "int64 .1, 1.: expected integers .2, c."),
        ([0, 1], "expected integers .2, c."),
        ([[0.0], [1.0]], "float64"),
    ],
)
def test_bad_positives(positives, told):
    x = whole(0, 5, 3)
    with pytest.raises(UserError, match=told):
        inspect.unwrap(ranks)(x[:2], x, np.array(positives))


def test_an_unknown_tie_rule():
    with pytest.raises(UserError, match="ties is 'lowest': did you mean 'lowest_id'"):
        ranks(whole(0, 2, 3), whole(1, 2, 3), np.array([[0], [1]]), ties="lowest")
