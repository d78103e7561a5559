"""Rows become operands of one matrix product whose value is the score, bias included.

The product is the whole cost of a search, so what else goes into a score travels in it as extra columns: a
subtraction on the finished tile would cost as much as a third of a bfloat16 product.

    euclidean   s = q.p - |p|^2 / 2      ranks as -|q - p| does; |q|^2 would only add rounding
    cosine      s = q.p of unit vectors
    dot         s = q.p

Between several vectors of one query |q|^2 does matter: then s = q.p - |p|^2 / 2 - |q|^2 / 2.
Rows that pad a tile get the bias NEVER, far below every score.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from demjax.search.inputs import Frame, Rows
from demjax.search.problem import Problem
from demjax.search.sweep import Kernel, Recipe

NEVER = -(2.0**100)


class QueryTile(NamedTuple):
    """A query tile: operands [q m, d + 2], squared lengths [q m], scales [q, 2], and fields by query."""

    operands: jax.Array
    square: jax.Array
    scales: jax.Array
    fields: tuple


class GalleryTile(NamedTuple):
    """A gallery tile: operands [g, d + 2], valid [g] (False for padding), and fields by row."""

    operands: jax.Array
    valid: jax.Array
    fields: tuple


def unit(x: jax.Array) -> jax.Array:
    """Rows at length 1; a zero row stays zero, so its cosine with anything is 0."""
    peak = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    x = x / jnp.where(peak > 0, peak, 1.0)  # squares of very large or very small rows would leave float32
    norm = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / jnp.where(norm > 0, norm, 1.0)


def in_frame(x: jax.Array, scale: Rows, centre: Rows, score: str) -> jax.Array:
    """Rows in the frame of the search."""
    return unit(x) if score == "cosine" else x * scale - centre[None]


def query_operands(rows: jax.Array, fields: tuple, frame: Frame, *, score: str) -> QueryTile:
    """Encodes queries [q, d] or [q, m, d]."""
    x = in_frame(rows.reshape(-1, rows.shape[-1]), frame.scales[0], frame.centre, score)
    square = jnp.sum(x * x, axis=-1)
    operands = jnp.concatenate([x, jnp.ones_like(x[:, :1]), -square[:, None] / 2], axis=1)
    return QueryTile(operands, square, jnp.tile(frame.scales[None], (rows.shape[0], 1)), fields)


def gallery_operands(
    rows: jax.Array, fields: tuple, valid: jax.Array, frame: Frame, *, score: str, several: bool
) -> GalleryTile:
    """Encodes gallery rows [g, d]; `several` vectors per query."""
    x = in_frame(rows, frame.scales[1], frame.centre, score)
    bias = -jnp.sum(x * x, axis=-1) / 2 if score == "euclidean" else jnp.zeros_like(x[:, 0])
    bias = jnp.where(valid, bias, NEVER)
    use_square = jnp.full_like(bias, float(several and score == "euclidean"))
    return GalleryTile(jnp.concatenate([x, bias[:, None], use_square[:, None]], axis=1), valid, fields)


def product(q: jax.Array, g: jax.Array, vectors: int) -> jax.Array:
    """Scores [q, g]: q @ g.T, the best of the `vectors` of each query.

    Accumulated in float32 at the highest precision: never at the reduced default of an accelerator.
    """
    dims = (((1,), (1,)), ((), ()))
    s = jax.lax.dot_general(q, g, dims, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32)
    return s if vectors == 1 else s.reshape(-1, vectors, s.shape[1]).max(axis=1)


@partial(jax.jit, static_argnames=("score", "several"))
def to_scores(s: jax.Array, square: jax.Array, scales: jax.Array, score: str, several: bool) -> jax.Array:
    """Ranking scores [q, n] as the scores a user knows; `square` [q m] and `scales` [q, 2] of the queries."""
    if score == "euclidean":
        squared = -2 * s if several else square[:, None] - 2 * s
        return -jnp.sqrt(jnp.maximum(squared, 0.0)) / scales[:, :1]  # cancellation can leave it slightly negative
    return s if score == "cosine" else s / scales[:, :1] / scales[:, 1:]  # their product may not be a number


def hide_excluded(s: jax.Array, own: jax.Array, first_row: jax.Array) -> jax.Array:
    """Scores [q, g] with minus infinity where a query meets its `own` gallery row [q]."""
    at = own - first_row
    at = jnp.where(at < 0, s.shape[1], at)  # a negative index would count from the end
    return s.at[jnp.arange(s.shape[0]), at].set(-jnp.inf, mode="drop")  # q writes, not a pass over the tile


def recipe(problem: Problem, step: Kernel) -> Recipe:
    """A sweep of float32 scores."""
    several = ("several", problem.vectors > 1)
    encode_gallery = Kernel(gallery_operands, (("score", problem.score), several))
    return Recipe(Kernel(query_operands, (("score", problem.score),)), encode_gallery, step)
