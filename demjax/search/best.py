"""The k best of each query, kept while the tiles of a search go by."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from demjax.search.operands import Tile, hide_excluded
from demjax.search.problem import Problem
from demjax.search.sweep import Kernel, Recipe, sweep
from demjax.search.tile_scores import Scoring, ranking_scores, scoring, to_scores
from demjax.search.tiles import Tiling
from demjax.search.topk import best, candidates


class Best(NamedTuple):
    """The best so far of each query of a tile: ranking scores and ids [q, k]; squares [q] of queries of one vector."""

    scores: jax.Array
    ids: jax.Array
    square: jax.Array


def keep_best(
    t: Tile, before: Best | None, *, k: int, score: Scoring, exclude_self: bool, apply: Callable | None
) -> Best:
    """One tile. With `exclude_self` the last field of the queries is the gallery row excluded for each."""
    q, g = t.queries, t.gallery
    s = ranking_scores(q, g, t.context, score)
    if apply:
        s = to_scores(s, q.square, q.scales, score)
        s = jnp.where(g.valid[None], apply(s, q.fields[: len(q.fields) - exclude_self], g.fields), -jnp.inf)
    if exclude_self:
        s = hide_excluded(s, q.fields[-1], t.first_row)
    scores, at = candidates(s, min(k, s.shape[1]))
    ids = t.first_row + at
    if before is not None:  # what came before has lower ids: first, for the ties
        scores, ids = jnp.concatenate([before.scores, scores], axis=1), jnp.concatenate([before.ids, ids], axis=1)
    scores, ids = best(scores, ids, min(k, scores.shape[1]))
    return Best(scores, ids, q.square.reshape(len(scores), -1)[:, 0])


@partial(jax.jit, static_argnames=("k", "seen_by"))
def _join(block: Best, k: int, seen_by: int) -> Best:
    """The best of each query, where `seen_by` devices have looked at different parts of the gallery."""
    if seen_by == 1:
        return block
    scores, ids = (jnp.concatenate(list(x.reshape(seen_by, -1, x.shape[1])), axis=1) for x in block[:2])
    order = jnp.argsort(ids, axis=1)
    scores, ids = jnp.take_along_axis(scores, order, axis=1), jnp.take_along_axis(ids, order, axis=1)
    return Best(*best(scores, ids, k), block.square[: len(ids)])


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
    """The k best of every block of queries, of the tiles `cut`.

    Args:
      recipe: step -> how rows are prepared for it.
      context: the arrays that every tile needs.
      apply, q_fields, g_fields: a correction of scores.
    """
    static = dict(k=k, score=scoring(problem.score), exclude_self=bool(problem.excluded), apply=apply)
    sides = (problem.queries, *q_fields, *problem.excluded), (problem.gallery, *g_fields)
    step = Kernel(keep_best, tuple(static.items()))
    carries = sweep(cut, *sides, recipe(step), context, problem.progress_line("searching"))
    return [_join(block, k, 1 if cut.by_queries else cut.mesh.size) for block in carries]
