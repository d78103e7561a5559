"""Ranks by counting: how many gallery rows stand before the best positive. No sort, no list of neighbours."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, Integer

from demjax.checks import choose
from demjax.search import inputs
from demjax.search.operands import Tile
from demjax.search.problem import Gallery, Problem, Queries, checked_problem
from demjax.search.row_reductions import row_sum
from demjax.search.score import AnyScore
from demjax.search.sweep import Kernel, merge_by_query, on_host, sweep
from demjax.search.tile_scores import Scoring, ranking_scores, recipe, scoring
from demjax.search.tiles import LARGE_K, Tiling

TIES = {
    "lowest_id": "equal scores stand in the order of their ids, as `nearest` lists them",
    "optimistic": "the positive stands before everything of equal score",
    "pessimistic": "the positive stands behind every negative of equal score",
}
NO_ID = np.iinfo(np.int32).max


class Positive(NamedTuple):
    """The best positive of each query [q]: its score, its id (the lowest of equals), how many positives equal it."""

    score: jax.Array
    id: jax.Array
    equals: jax.Array


def _best(scores: jax.Array, ids: jax.Array, equals: jax.Array) -> Positive:
    """The best of several positives [q, c]."""
    top = scores.max(axis=1)
    tied = scores == top[:, None]
    return Positive(top, jnp.where(tied, ids, NO_ID).min(axis=1), jnp.where(tied, equals, 0).sum(axis=1))


def _best_of_tile(s: jax.Array, positives: jax.Array, first_row: jax.Array) -> Positive:
    """The best positive [q, c] (-1: none) that this tile of scores holds."""
    at = positives - first_row
    here = (positives >= 0) & (at >= 0) & (at < s.shape[1])
    scores = jnp.take_along_axis(s, jnp.where(here, at, 0), axis=1)
    return _best(jnp.where(here, scores, -jnp.inf), jnp.where(here, positives, NO_ID), here.astype(jnp.int32))


def _ahead_in_tile(s: jax.Array, best: Positive, first_row: jax.Array, ties: str) -> jax.Array:
    """How many rows of this tile stand before the best positive."""
    bar = best.score[:, None]
    ahead = s >= bar if ties == "pessimistic" else s > bar
    if ties == "lowest_id":
        ids = first_row + jnp.arange(s.shape[1])
        ahead |= (s == bar) & (ids[None, :] < best.id[:, None])
    return row_sum(ahead, "int32")


def best_positive(t: Tile, best: Positive | None, *, score: Scoring) -> Positive:
    """A tile of the first pass. The score of a positive must come from the product it is compared with."""
    s = ranking_scores(t.queries, t.gallery, t.context, score)
    here = _best_of_tile(s, t.queries.fields[0], t.first_row)
    if best is None:
        return here
    return _best(*(jnp.stack([old, new], axis=1) for old, new in zip(best, here, strict=True)))


def count_ahead(t: Tile, before: jax.Array | None, *, score: Scoring, ties: str) -> jax.Array:
    """A tile of the second pass; the fields of the queries are their best positives."""
    s = ranking_scores(t.queries, t.gallery, t.context, score)
    here = _ahead_in_tile(s, Positive(*t.queries.fields), t.first_row, ties)
    return here if before is None else before + here


def one_pass(t: Tile, carry: None, *, score: Scoring, ties: str) -> tuple:
    """Both passes, where the gallery is a single tile."""
    s = ranking_scores(t.queries, t.gallery, t.context, score)
    best = _best_of_tile(s, t.queries.fields[0], t.first_row)
    return _ahead_in_tile(s, best, t.first_row, ties), *best


def ranks(
    queries: Queries,
    gallery: Gallery,
    positives: Integer[Array | np.ndarray, "q c"],
    score: AnyScore = "euclidean",
    mesh: Mesh | None = None,
    *,
    ties: str = "lowest_id",
    progress: bool = False,
) -> Int[np.ndarray, " q"]:
    """The rank, from 1, of the best-scoring positive of each query among all gallery rows.

    Counts in float32 at the highest precision, in tiles: one pass over the scores, and a second one over the tiles
    that hold positives where the gallery has more than one tile (61,440 rows on a CPU). The same on any number of
    devices.

    Args:
      queries, gallery, score, mesh, progress: as for `nearest`.
      positives: ids of the right answers of each query, in any order; -1 fills up rows that have fewer.
      ties: a key of TIES. Positives never push each other back.
    """
    choose("ties", ties, TIES)
    wanted = np.asarray(positives)
    problem = checked_problem(queries, gallery, score, mesh, progress)
    inputs.check_positives(wanted, len(queries), len(gallery))
    wanted = wanted.astype(np.int32)
    cut = problem.tiling(max(wanted.shape[1], LARGE_K + 1))  # tiles with long rows: more often only one
    by = ("score", scoring(problem.score))
    if cut.by_queries and len(gallery) <= cut.g_rows:
        before, *best = on_host(_run(problem, cut, (wanted,), Kernel(one_pass, (by, ("ties", ties)))), cut.queries)
    else:
        blocks = _run(problem, cut, (wanted,), Kernel(best_positive, (by,)), _holds_positives(cut, wanted))
        best = on_host([_best(*(x.T for x in merge_by_query(cut, block))) for block in blocks], cut.queries)
        counted = _run(problem, cut, tuple(best), Kernel(count_ahead, (by, ("ties", ties))))
        before = on_host([merge_by_query(cut, block).sum(axis=0) for block in counted], cut.queries)
    inputs.check_finite(problem.score, "the best positive", best[0])
    if ties == "pessimistic":
        before = before - best[2]
    return 1 + before


def _run(problem: Problem, cut: Tiling, fields: tuple, step: Kernel, needed: np.ndarray | None = None) -> list[Any]:
    line = problem.progress_line("ranking" if needed is None else "scoring positives")
    sides = (problem.queries, *fields), (problem.gallery,)
    return sweep(cut, *sides, recipe(problem, step), problem.context, line, needed)


def _holds_positives(cut: Tiling, positives: np.ndarray) -> np.ndarray:
    """Whether a block of queries has positives in a block of the gallery: [query blocks, gallery blocks]."""
    needed = np.zeros((len(cut.q_starts()), -(-cut.gallery // cut.g_block)), bool)
    row, column = np.nonzero(positives >= 0)
    needed[row // cut.q_block, positives[row, column] // cut.g_block] = True
    return needed
