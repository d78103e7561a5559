"""Exact nearest neighbours by blocked brute force, float32 at the highest matrix precision."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from demjax.checks import UserError, choose

QUERY_BLOCK = 1024  # rows of scores in memory at once: block x gallery, never queries x gallery


class Neighbours(NamedTuple):
    """For each query the k nearest gallery rows, nearest first, and their scores (greater is nearer)."""

    ids: Int[Array, "q k"]
    scores: Float[Array, "q k"]


def _unit(x: jax.Array) -> jax.Array:
    """Rows at length 1; a zero row stays zero, so its cosine with anything is 0."""
    norm = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / jnp.where(norm > 0, norm, 1.0)


def _dot(q: jax.Array, g: jax.Array) -> jax.Array:
    return jnp.matmul(q, g.T, precision=jax.lax.Precision.HIGHEST)


def _euclidean(q: jax.Array, g: jax.Array) -> jax.Array:
    """2 q.g - |g|^2: ranks as -||q - g|| does, without the rounding that adding |q|^2 would bring."""
    return 2 * _dot(q, g) - jnp.sum(g * g, -1)[None]


SCORES = {"euclidean": _euclidean, "cosine": _dot, "dot": _dot}


@partial(jax.jit, static_argnames=("k", "score"))
def _search(queries: jax.Array, gallery: jax.Array, k: int, score: str) -> Neighbours:
    if score == "euclidean":
        # A common offset cancels in every distance but not in float32: take it out before the product.
        centre = jnp.mean(gallery, axis=0, keepdims=True)
        queries, gallery = queries - centre, gallery - centre
    elif score == "cosine":
        queries, gallery = _unit(queries), _unit(gallery)

    def one_block(block: jax.Array) -> Neighbours:
        scores = SCORES[score](block, gallery)
        scores = jnp.where(scores == 0, 0.0, scores)  # top_k puts -0.0 below 0.0: they are a tie
        scores, ids = jax.lax.top_k(scores, k)  # stable: lowest id on ties
        if score == "euclidean":  # cancellation can make a squared distance slightly negative
            scores = -jnp.sqrt(jnp.maximum(jnp.sum(block * block, -1)[:, None] - scores, 0.0))
        return Neighbours(ids, scores)

    n, block = queries.shape[0], min(QUERY_BLOCK, queries.shape[0])
    n_blocks = -(-n // block)
    padded = jnp.pad(queries, ((0, n_blocks * block - n), (0, 0)))
    found = jax.lax.map(one_block, padded.reshape(n_blocks, block, -1))
    return jax.tree.map(lambda x: x.reshape(n_blocks * block, k)[:n], found)


def nearest(
    queries: Float[Array, "q d"], gallery: Float[Array, "g d"], k: int = 1, score: str = "euclidean"
) -> Neighbours:
    """The k gallery rows nearest to each query, exactly.

    Args:
      queries: at least one row; float32 in, float32 out.
      gallery: at least k rows.
      k: 1 <= k <= g.
      score: `euclidean` (-distance), `cosine` (in [-1, 1]; 0 with a zero vector) or `dot`.

    Returns:
      Neighbours, nearest first; equal scores in the order of their ids.

    Raises:
      UserError: unknown score, k out of range, an empty side, or widths that differ.
    """
    choose("score", score, SCORES)
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise UserError(f"queries {queries.shape} and gallery {gallery.shape}: expected [q, d] and [g, d] with one d")
    if queries.shape[0] == 0 or not 1 <= k <= gallery.shape[0]:
        raise UserError(
            f"k = {k} of {gallery.shape[0]} gallery rows for {queries.shape[0]} queries: "
            "expected at least one query and 1 <= k <= gallery"
        )
    return _search(jnp.asarray(queries), jnp.asarray(gallery), k, score)
