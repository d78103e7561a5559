"""The scores of a tile: of vectors by one matrix product, of a Pair by its function.

Ranking scores order the gallery rows of one query as the scores of the user do and cost no more than the product;
`to_scores` makes the scores of the user from them, for few results or where corrections need them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from demjax.search import operands
from demjax.search.best_vectors import mean_of_greatest
from demjax.search.operands import GalleryTile, QueryTile
from demjax.search.problem import Problem
from demjax.search.score import Pair, Score
from demjax.search.sweep import Kernel, Recipe

Scoring = Score | Callable  # hashable: a Pair without its arrays


def scoring(score: Score | Pair) -> Scoring:
    """What a compiled step is made for."""
    return score.function if isinstance(score, Pair) else score


def ranking_scores(q: QueryTile, g: GalleryTile, context: Any, score: Scoring) -> jax.Array:
    """Ranking scores [q, g]. Rows of padding get scores below all others."""
    if not isinstance(score, Score):
        s = score(context, q.operands, g.operands)
        s = jnp.where(jnp.isnan(s), jnp.inf, s)  # stands first and is refused as a result, instead of hiding
        return jnp.where(g.valid[None], s, -jnp.inf)
    s = operands.product(q.operands, g.operands)
    if score.vectors == 1:
        return s
    s = s.reshape(-1, score.vectors, s.shape[1])
    if score.mean_of_best == 1:
        return s.max(axis=1)
    return mean_of_greatest(s, score.mean_of_best, score.kind == "euclidean")


@partial(jax.jit, static_argnames="score")
def to_scores(s: jax.Array, square: jax.Array, scales: jax.Array, score: Scoring) -> jax.Array:
    """Ranking scores s [q, n] as the scores a user knows; scales [q, 2] or [1, 2] are those of the frame.

    `square`, the squared lengths of the queries, is read where each query is one vector.
    """
    if not isinstance(score, Score) or score.kind == "cosine":
        return s
    if score.kind == "dot":
        return s / scales[:, :1] / scales[:, 1:]  # the product of both scales may not be a number
    if score.mean_of_best > 1:
        return s / scales[:, :1]
    squared = -2 * s if score.vectors > 1 else square[:, None] - 2 * s
    return -jnp.sqrt(jnp.maximum(squared, 0.0)) / scales[:, :1]  # cancellation can leave it slightly negative


def scores(q: QueryTile, g: GalleryTile, context: Any, score: Scoring) -> jax.Array:
    """Scores [q, g] as a user knows them; anything for rows of padding."""
    return to_scores(ranking_scores(q, g, context, score), q.square, q.scales, score)


def query_rows(rows: jax.Array, fields: tuple, context: Any) -> QueryTile:
    """A tile of queries for the function of a Pair."""
    nothing = jnp.zeros(len(rows), jnp.float32)
    return QueryTile(rows, nothing, jnp.ones((len(rows), 2), jnp.float32), fields)


def gallery_rows(rows: jax.Array, fields: tuple, valid: jax.Array, context: Any) -> GalleryTile:
    """A tile of the gallery for the function of a Pair."""
    return GalleryTile(rows, valid, fields)


def recipe(problem: Problem, step: Kernel) -> Recipe:
    """A sweep of float32 scores."""
    if isinstance(problem.score, Pair):
        return Recipe(Kernel(query_rows), Kernel(gallery_rows), step)
    static = (("score", problem.score),)
    return Recipe(Kernel(operands.query_operands, static), Kernel(operands.gallery_operands, static), step)
