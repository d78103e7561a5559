"""The k best of each query, kept while the tiles of a search go by."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from demjax.search import operands
from demjax.search.problem import Problem
from demjax.search.sweep import Kernel, Recipe, sweep
from demjax.search.tiles import Tiling
from demjax.search.topk import best, candidates


class Best(NamedTuple):
    """The best so far of each query of a tile: ranking scores and ids [q, k]; the queries' squared lengths [q]."""

    scores: jax.Array
    ids: jax.Array
    square: jax.Array


def keep_best(
    q: operands.QueryTile,
    g: operands.GalleryTile,
    first_row: jax.Array,
    before: Best | None,
    *,
    k: int,
    vectors: int,
    score: str,
    exclude_self: bool,
    apply: Callable | None,
) -> Best:
    """One tile. With `exclude_self` the last field of the queries is their own gallery row."""
    s = operands.product(q.operands, g.operands, vectors)
    if apply:
        s = operands.to_scores(s, q.square, q.scales, score, vectors > 1)
        s = jnp.where(g.valid[None], apply(s, q.fields[: len(q.fields) - exclude_self], g.fields), -jnp.inf)
    if exclude_self:
        s = operands.hide_excluded(s, q.fields[-1], first_row)
    scores, at = candidates(s, min(k, s.shape[1]))
    ids = first_row + at
    if before is not None:  # what came before has lower ids: first, for the ties
        scores, ids = jnp.concatenate([before.scores, scores], axis=1), jnp.concatenate([before.ids, ids], axis=1)
    scores, ids = best(scores, ids, min(k, scores.shape[1]))
    return Best(scores, ids, q.square.reshape(-1, vectors)[:, 0])


@partial(jax.jit, static_argnames=("k", "seen_by"))
def _join(found: Best, k: int, seen_by: int) -> Best:
    """The best of each query, where `seen_by` devices have looked at different parts of the gallery."""
    if seen_by == 1:
        return found
    scores, ids = (jnp.concatenate(list(x.reshape(seen_by, -1, x.shape[1])), axis=1) for x in found[:2])
    order = jnp.argsort(ids, axis=1)
    scores, ids = jnp.take_along_axis(scores, order, axis=1), jnp.take_along_axis(ids, order, axis=1)
    return Best(*best(scores, ids, k), found.square[: len(ids)])


def find_best(
    problem: Problem,
    cut: Tiling,
    k: int,
    recipe: Callable[[Kernel], Recipe],
    context: Any,
    apply: Callable | None = None,
    q_fields: tuple = (),
    g_fields: tuple = (),
) -> list[Best]:
    """Sweeps all tiles: the k best of every block of queries.

    Args:
      problem, cut: the search and its tiles.
      k: results for each query.
      recipe: how rows are encoded, given the step.
      context: what the encoders need.
      apply, q_fields, g_fields: a correction of scores.
    """
    own = () if problem.excluded is None else (problem.excluded,)
    static = dict(k=k, vectors=problem.vectors, score=problem.score, exclude_self=bool(own), apply=apply)
    sides = (problem.queries, *q_fields, *own), (problem.gallery, *g_fields)
    step = Kernel(keep_best, tuple(static.items()))
    carries = sweep(cut, *sides, recipe(step), context, problem.progress_line("searching"))
    return [_join(found, k, 1 if cut.by_queries else cut.mesh.size) for found in carries]
