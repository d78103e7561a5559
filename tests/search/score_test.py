"""Scores of several vectors a query and of functions of pairs, against loops in float64."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.mesh import data_mesh
from demjax.search import (
    SCORES,
    Pair,
    Score,
    all_scores,
    best_vectors,
    log_sum_exp,
    moments,
    nearest,
    operands,
    ranks,
    tile_scores,
    tiles,
)
from demjax.search.problem import checked_problem

from . import oracle


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def mean_of_best(queries, gallery, score):
    """float64 [q, g], pair by pair."""
    each = [oracle.scores(queries[:, i], gallery, score.kind) for i in range(score.vectors)]
    out = np.empty(each[0].shape)
    for at in np.ndindex(out.shape):
        out[at] = np.mean(sorted((s[at] for s in each), reverse=True)[: score.mean_of_best])
    return out


@pytest.mark.parametrize("kind", sorted(SCORES))
@pytest.mark.parametrize(
    ("m", "count", "g"),
    [(1, 1, 13), (3, 1, 7), (3, 2, 8), (7, 1, 64), (7, 2, 13), (7, 6, 64), (196, 1, 8), (196, 2, 7), (196, 6, 13)],
)
def test_equals_a_loop_over_all_pairs_on_eight_devices(kind, m, count, g, mesh):
    queries, gallery = normal(5, m, 4) * np.linspace(1, 3, m, dtype=np.float32)[:, None], normal(g, 4, seed=1)
    score = Score(kind, m, count)
    every = mean_of_best(queries, gallery, score)
    ids = np.argsort(-every, axis=1, kind="stable")[:, :3]
    found = nearest(queries, gallery, 3, score, mesh)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_allclose(found.scores, np.take_along_axis(every, ids, axis=1), rtol=1e-5, atol=2e-6)


def test_summaries_and_ranks_of_the_mean_of_the_best(mesh, small_tiles):
    queries, gallery, score = normal(20, 7, 6), normal(300, 6, seed=1), Score("cosine", 7, 2)
    every = mean_of_best(queries, gallery, score)
    np.testing.assert_allclose(all_scores(queries, gallery, score, mesh), every, atol=2e-6)
    mean, std = moments(queries, gallery, score, mesh)
    np.testing.assert_allclose(mean, every.mean(axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(std, every.std(axis=1), rtol=1e-5)
    sums = log_sum_exp(queries, gallery, 5.0, score, mesh)
    np.testing.assert_allclose(sums, np.log(np.exp(5 * every).sum(axis=1)), rtol=1e-5)
    positives = np.arange(40).reshape(20, 2)
    best = np.take_along_axis(every, positives, axis=1).max(axis=1)
    np.testing.assert_array_equal(ranks(queries, gallery, positives, score, mesh), 1 + (every > best[:, None]).sum(1))


@pytest.mark.parametrize("score", [Score("euclidean", 7, 6), Score("dot", 7, 7)])
def test_bit_for_bit_the_same_on_any_mesh_and_ties_by_id(score, any_mesh):
    """Copies of gallery rows tie with them, in other tiles and on other devices, and so they do in ranks."""
    queries, gallery = normal(40, 7, 5), normal(700, 5, seed=1)
    gallery[350:] = gallery[:350]
    one, many = nearest(queries, gallery, 700, score), nearest(queries, gallery, 700, score, any_mesh)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a, b)
    place = np.argsort(one.ids, axis=1)
    assert (place[:, :350] + 1 == place[:, 350:]).all()
    positives = np.arange(350, 390)[:, None]
    np.testing.assert_array_equal(
        ranks(queries, gallery, positives, score, any_mesh), 1 + place[range(40), positives.T][0]
    )


def test_equal_vectors_count_each():
    """Three of the four vectors are the same: the mean of the best two is that of two copies, not of two values."""
    queries = np.float32([[[1, 0], [0, 1], [1, 0], [1, 0]]])
    found = nearest(queries, np.float32([[1, 0], [0, 1]]), 2, Score("dot", 4, 2))
    assert found.scores.tolist() == [[1, 0.5]] and found.ids.tolist() == [[0, 1]]
    distinct = [np.unique(queries[0] @ g)[-2:].mean() for g in np.float32([[1, 0], [0, 1]])]  # a mutant
    assert distinct == [0.5, 0.5]


def test_the_mean_of_distances_is_not_the_root_of_a_mean_of_squares():
    """A mutant that averages the ranking scores, halves of squares, would take the other row."""
    queries, gallery = np.float32([[[0, 0], [10, 0]]]), np.float32([[5, 1], [0, 0]])
    assert nearest(queries, gallery, 2, Score("euclidean", 2, 2)).ids.tolist() == [[1, 0]]
    distances = np.linalg.norm(queries[0, :, None] - gallery[None], axis=-1)
    assert distances.mean(axis=0).argmin() == 1 and (distances**2).mean(axis=0).argmin() == 0


def region_scores(variables, queries, gallery):
    """The greatest of x W y over the regions y [g, r, d] of a gallery row; NaN where a region has length 0."""
    s = jnp.einsum("qd,de,gre->qgr", queries, variables["weight"], gallery, precision="highest")
    return (s / jnp.linalg.norm(gallery, axis=-1)[None]).max(axis=-1) + variables["shift"]


def true_region_scores(variables, queries, gallery):
    out = np.empty((len(queries), len(gallery)))
    for i, x in enumerate(queries.astype(np.float64)):
        for j, regions in enumerate(gallery.astype(np.float64)):
            out[i, j] = max(x @ variables["weight"] @ y / np.linalg.norm(y) for y in regions) + variables["shift"]
    return out


VARIABLES = {"weight": normal(6, 4, seed=2), "shift": np.float32(0.5)}
REGIONS = Pair(region_scores, VARIABLES)


@pytest.mark.parametrize("g", [7, 8, 13, 64, 300])
def test_a_function_of_pairs_with_padding_that_is_nan(g, mesh, small_tiles):
    queries, gallery = normal(21, 6), normal(g, 3, 4, seed=1)
    gallery[g // 2 :] = gallery[: g - g // 2]  # ties
    every = true_region_scores(VARIABLES, queries, gallery)
    found = nearest(queries, gallery, 5, REGIONS, mesh)
    np.testing.assert_allclose(found.scores, -np.sort(-every, axis=1)[:, :5], rtol=1e-5)
    np.testing.assert_array_equal(found.ids, np.argsort(-every.round(6), axis=1, kind="stable")[:, :5])


def test_ranks_and_summaries_of_a_function_of_pairs(any_mesh, small_tiles):
    queries, gallery, positives = normal(21, 6), normal(300, 3, 4, seed=1), np.arange(42).reshape(21, 2)
    every = true_region_scores(VARIABLES, queries, gallery)
    np.testing.assert_allclose(all_scores(queries, gallery, REGIONS, any_mesh), every, rtol=1e-5, atol=1e-6)
    best = np.take_along_axis(every, positives, axis=1).max(axis=1)
    expected = 1 + (every > best[:, None]).sum(axis=1)
    np.testing.assert_array_equal(ranks(queries, gallery, positives, REGIONS, any_mesh), expected)
    for a, b in zip(moments(queries, gallery, REGIONS, any_mesh), moments(queries, gallery, REGIONS), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(a, every.std(axis=1), rtol=1e-4)


def test_any_arrays_are_the_sides_of_a_pair():
    def same_word(variables, queries, gallery):
        return (queries[:, None] == gallery[None]).astype(jnp.float32)

    found = nearest(np.array([3, 5]), np.array([5, 3, 5]), 2, Pair(same_word))
    assert found.ids.tolist() == [[1, 0], [0, 2]]
    alone = nearest(np.array([3, 5, 3]), np.array([3, 5, 3]), 1, Pair(same_word), exclude_self=True)
    assert alone.ids.tolist() == [[2], [0], [0]]


def small_enough(problem, results):
    cut = problem.tiling(results)
    return cut, cut.q_rows * cut.g_rows * problem.size.numbers <= tiles.TILE_SCORES


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("results", [10, 100])
def test_a_tile_of_196_vectors_keeps_the_budget(count, results):
    """By the memory of the compiled tile; nothing is run."""
    queries, gallery = np.zeros((40, 196, 16), np.float32), np.zeros((40_000, 16), np.float32)
    score = Score("cosine", 196, count)
    cut, small = small_enough(checked_problem(queries, gallery, score, None, False), results)
    assert small and cut.q_rows * cut.g_rows * 196 > tiles.TILE_SCORES / 4
    sides = jax.ShapeDtypeStruct((cut.q_rows * 196, 18), np.float32), jax.ShapeDtypeStruct((cut.g_rows, 18), np.float32)

    def tile(q, g):
        q = operands.QueryTile(q, q[:, 0], q[:, :2], ())
        return tile_scores.ranking_scores(q, operands.GalleryTile(g, g[:, 0] > 0, ()), (), score)

    used = jax.jit(tile).lower(*sides).compile().memory_analysis().temp_size_in_bytes
    assert used <= 4 * tiles.TILE_SCORES * 1.1
    mutant = tiles.tiling(40, 40_000, results, tiles.Size(), cut.mesh)  # one that counts queries, not their vectors
    assert mutant.q_rows * mutant.g_rows * 196 > 4 * tiles.TILE_SCORES


def test_the_numbers_within_a_function_of_pairs_are_counted():
    queries, gallery = np.zeros((500, 8), np.float32), np.zeros((9000, 49, 8), np.float32)
    weight = np.ones((8, 8), np.float32)

    def by_regions(weight, queries, gallery):
        return jax.jit(lambda q, g: jnp.einsum("qd,gre->qgr", q @ weight, g).max(axis=-1))(queries, gallery)

    problem = checked_problem(queries, gallery, Pair(by_regions, weight), None, False)
    assert problem.size.numbers == 49 and small_enough(problem, 1)[1]
    wide = problem._replace(size=problem.size._replace(gallery_bytes=tiles.ROW_BYTES // 100))
    assert wide.tiling(1).g_rows <= 100


def test_the_greatest_are_those_of_a_sort():
    s = np.random.default_rng(0).integers(0, 4, (2, 9, 5)).astype(np.float32)
    for count in (1, 2, 8):
        expected = -np.sort(-s, axis=1)[:, :count].swapaxes(0, 1)
        np.testing.assert_array_equal(best_vectors.greatest(jnp.array(s), count), expected)


BAD = [
    (Score("cosin", 3), "score is 'cosin': did you mean 'cosine'"),
    (Score("cosine", 4), "queries (2, 3, 5) with Score.vectors = 4: expected [q, 4, d]"),
    (Score("cosine"), "queries (2, 3, 5) with Score.vectors = 1: expected [q, d] or [q, 1, d]"),
    (Score("cosine", 3, 4), "Score.mean_of_best is 4: expected a whole number >= 1 and <= vectors = 3"),
    (Score("cosine", 3, 0), "Score.mean_of_best is 0"),
    (Score("cosine", 3, 2.0), "Score.mean_of_best is 2.0"),
    (Score("cosine", True), "Score.vectors is True: expected a whole number >= 1"),
    (Pair("cosine"), "Pair.function is 'cosine': expected a function"),
    (Pair(lambda v, q, g: q[:, 0] @ g.T > 0), "gives bool (1009, 1013)"),
    (Pair(lambda v, q, g: q[:, 0].sum(-1)), "gives float32 (1009,) for 1009 queries and 1013 gallery rows"),
    (Pair(lambda v, q, g: 0 / q[:, 0] @ g.T * 0), "the score of query 0 with one of its neighbours is NaN"),
]


@pytest.mark.parametrize(("score", "message"), BAD)
def test_bad_scores(score, message):
    with pytest.raises(UserError, match=re.escape(message)):
        inspect.unwrap(nearest)(np.zeros((2, 3, 5), np.float32), np.ones((4, 5), np.float32), 1, score)


def test_what_is_not_proved_is_refused():
    mean = normal(4, 3, 5), normal(8, 5), Score("dot", 3, 2), r"dot \(mean of the best 2 of 3 vectors\)"
    function = normal(4, 6), normal(8, 3, 4), REGIONS, r"Pair\(region_scores\)"
    for queries, gallery, score, name in (mean, function):
        with pytest.raises(UserError, match=f"{name} with precision='certified': expected 'highest'"):
            nearest(queries, gallery, 1, score, precision="certified")


@pytest.mark.parametrize("kind", sorted(SCORES))
def test_one_vector_in_an_axis_of_its_own_is_proved_too(kind):
    queries, gallery = 5 + normal(30, 1, 6), 5 + normal(200, 6, seed=1)
    found = nearest(queries, gallery, 3, Score(kind), data_mesh(jax.devices()[:1]), "certified")
    np.testing.assert_array_equal(found.ids, oracle.nearest(queries[:, 0], gallery, 3, kind)[0])
