"""Rows become operands of one matrix product whose value is the score, bias included.

The product is the whole cost of a search, so what else goes into a score travels in it as extra columns: a
subtraction on the finished tile would cost as much as a third of a bfloat16 product.

    euclidean   s = q.p - |p|^2 / 2      ranks as -|q - p| does; |q|^2 would only add rounding
    cosine      s = q.p of unit vectors
    dot         s = q.p

Between several vectors of one query |q|^2 does matter: then s = q.p - |p|^2 / 2 - |q|^2 / 2.
Rows that pad a tile get the bias NEVER, far below every score.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from demjax.search.inputs import Frame, Rows
from demjax.search.score import Score

NEVER = -(2.0**100)


class QueryTile(NamedTuple):
    """A tile of queries: operands [q m, d + 2], squared lengths [q m], scales [q, 2], and fields by query."""

    operands: jax.Array
    square: jax.Array
    scales: jax.Array
    fields: tuple


class GalleryTile(NamedTuple):
    """A tile of the gallery: operands [g, d + 2], valid [g] (False for padding), and fields by row."""

    operands: jax.Array
    valid: jax.Array
    fields: tuple


class Tile(NamedTuple):
    """What a step of a search works on; `context` is the same for all tiles, `first_row` the id of gallery row 0."""

    queries: QueryTile
    gallery: GalleryTile
    context: Any
    first_row: jax.Array


def unit(x: jax.Array) -> jax.Array:
    """Rows at length 1; a zero row stays zero, so its cosine with anything is 0."""
    peak = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    x = x / jnp.where(peak > 0, peak, 1.0)  # squares of very large or very small rows would leave float32
    norm = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / jnp.where(norm > 0, norm, 1.0)


def in_frame(x: jax.Array, scale: Rows, centre: Rows, kind: str) -> jax.Array:
    """Rows in the frame of the search."""
    return unit(x) if kind == "cosine" else x * scale - centre[None]


def query_operands(rows: jax.Array, fields: tuple, frame: Frame, *, score: Score) -> QueryTile:
    """Operands of queries [q, d] or [q, m, d]."""
    x = in_frame(rows.reshape(-1, rows.shape[-1]), frame.scales[0], frame.centre, score.kind)
    square = jnp.sum(x * x, axis=-1)
    operands = jnp.concatenate([x, jnp.ones_like(x[:, :1]), -square[:, None] / 2], axis=1)
    return QueryTile(operands, square, jnp.tile(frame.scales[None], (rows.shape[0], 1)), fields)


def gallery_operands(rows: jax.Array, fields: tuple, valid: jax.Array, frame: Frame, *, score: Score) -> GalleryTile:
    """Operands of gallery rows [g, d]."""
    x = in_frame(rows, frame.scales[1], frame.centre, score.kind)
    bias = -jnp.sum(x * x, axis=-1) / 2 if score.kind == "euclidean" else jnp.zeros_like(x[:, 0])
    bias = jnp.where(valid, bias, NEVER)
    use_square = jnp.full_like(bias, float(score.vectors > 1 and score.kind == "euclidean"))
    return GalleryTile(jnp.concatenate([x, bias[:, None], use_square[:, None]], axis=1), valid, fields)


def product(q: jax.Array, g: jax.Array) -> jax.Array:
    """q @ g.T, accumulated in float32 at the highest precision: never at the reduced default of an accelerator."""
    dims = (((1,), (1,)), ((), ()))
    return jax.lax.dot_general(q, g, dims, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32)


def hide_excluded(s: jax.Array, excluded: jax.Array, first_row: jax.Array) -> jax.Array:
    """Scores [q, g] with minus infinity where a query meets the gallery row `excluded` [q] for it."""
    at = excluded - first_row
    at = jnp.where(at < 0, s.shape[1], at)  # a negative index would count from the end
    return s.at[jnp.arange(s.shape[0]), at].set(-jnp.inf, mode="drop")  # q writes, not a pass over the tile
