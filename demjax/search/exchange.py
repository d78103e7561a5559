"""Scores with the sides exchanged: a search from gallery rows to queries, as hub corrections need it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from demjax.search import operands, tile_scores
from demjax.search.inputs import Frame, shared_frame
from demjax.search.score import Pair, Score
from demjax.search.tiles import Rows


@dataclass(frozen=True)
class ScoreOfRows:
    """A Score as the function of a Pair; its variables are the frame."""

    score: Score

    def __call__(self, frame: Frame, queries: jax.Array, gallery: jax.Array) -> jax.Array:
        """Scores [q, g] of queries [q, m, d] and gallery rows [g, d]."""
        q = operands.query_operands(queries, (), frame, score=self.score)
        g = operands.gallery_operands(gallery, (), jnp.ones(len(gallery), bool), frame, score=self.score)
        return tile_scores.scores(q, g, frame, self.score)


@dataclass(frozen=True)
class Exchanged:
    """The function of a Pair with its sides exchanged. Equal to every other one of the same function."""

    function: Callable

    def __call__(self, variables: Any, queries: jax.Array, gallery: jax.Array) -> jax.Array:
        """Scores [q, g] of rows that stand in the function for the gallery, and of rows that stand for its queries."""
        return self.function(variables, gallery, queries).T


def exchanged(score: Score | Pair, queries: Rows, gallery: Rows) -> Score | Pair:
    """The score by which `gallery` rows search `queries`, where `score` is that by which queries search the gallery."""
    if isinstance(score, Pair):
        return Pair(Exchanged(score.function), score.variables)
    if score.vectors == 1:
        return score  # a product knows no sides
    return Pair(Exchanged(ScoreOfRows(score)), shared_frame(queries, gallery, score.kind))
