"""Scores with the sides exchanged: a search from gallery rows to queries, as hub corrections need it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from demjax.search import operands, tile_scores
from demjax.search.inputs import shared_frame
from demjax.search.score import Pair, Score
from demjax.search.tiles import Rows


@dataclass(frozen=True)
class Exchanged:
    """The function of a Pair, from that of another one or a Score of several vectors. Equal to all of the same one."""

    original: Callable | Score

    def __call__(self, variables: Any, queries: jax.Array, gallery: jax.Array) -> jax.Array:
        """Scores [q, g] of rows that are the original's gallery, and of rows that are its queries."""
        if not isinstance(self.original, Score):
            return self.original(variables, gallery, queries).T
        q = operands.query_operands(gallery, (), variables, score=self.original)
        g = operands.gallery_operands(queries, (), jnp.ones(len(queries), bool), variables, score=self.original)
        return tile_scores.scores(q, g, variables, self.original).T


def exchanged(score: Score | Pair, queries: Rows, gallery: Rows) -> Score | Pair:
    """The score by which `gallery` rows search `queries`, where `score` is that by which queries search the gallery."""
    if isinstance(score, Pair):
        return Pair(Exchanged(score.function), score.variables)
    if score.vectors == 1:
        return score  # a product knows no sides
    return Pair(Exchanged(score), shared_frame(queries, gallery, score.kind))
