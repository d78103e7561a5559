"""Scores of single pairs in float64: slow, and the truth the rest is measured by.

Each score is one loop over its own coordinates, so equal rows have equal scores wherever they stand. A matrix
product does not promise that.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from demjax.mesh import localise


@partial(jax.jit, static_argnames="kind")
def pairs(q: jax.Array, rows: jax.Array, kind: str) -> jax.Array:
    """Scores [n] of queries [n, m, d] with one row [n, d] each: the best of the m."""
    q, rows = q.astype(jnp.float64), rows.astype(jnp.float64)[:, None]
    if kind == "euclidean":
        return jnp.max(-jnp.sqrt(jnp.sum((q - rows) ** 2, axis=-1)), axis=-1)
    dots = jnp.sum(q * rows, axis=-1)
    if kind == "cosine":
        norms = jnp.sqrt(jnp.sum(q * q, axis=-1)) * jnp.sqrt(jnp.sum(rows * rows, axis=-1))
        dots = dots / jnp.where(norms > 0, norms, 1.0)
    return jnp.max(dots, axis=-1)


@partial(jax.jit, static_argnames="kind")
def of_candidates(queries: jax.Array, gallery: jax.Array, ids: jax.Array, kind: str) -> jax.Array:
    """Scores [q, c] of queries [q, m, d] with the gallery rows `ids` [q, c]."""
    # One candidate of every query at a time: gathering all of them first would take four times as long.
    return jax.lax.map(lambda column: pairs(queries, gallery[column], kind), ids.T).T


@partial(jax.jit, static_argnames="kind")
def of_all(queries: jax.Array, gallery: jax.Array, kind: str) -> jax.Array:
    """Scores [q, g] of queries [q, m, d] with every row of a gallery tile."""

    def one(q: jax.Array) -> jax.Array:
        return pairs(jnp.broadcast_to(q, (gallery.shape[0], *q.shape)), gallery, kind)

    return jax.lax.map(one, queries)


def ordered(scores: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids, scores) [q, k] of the largest scores [q, c], equal ones by id."""
    if scores.shape[1] <= 4 * k:
        order = np.lexsort((ids, -scores), axis=-1)[:, :k]
        return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)
    worst = np.partition(scores, -k, axis=1)[:, -k]  # sort only what can be among the k, all that tie with the last too
    eligible = scores >= worst[:, None]
    firsts = [_first(row[at], row_ids[at], k) for row, row_ids, at in zip(scores, ids, eligible, strict=True)]
    return np.stack([first for first, _ in firsts]), np.stack([row for _, row in firsts])


def _first(scores: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((ids, -scores))[:k]
    return ids[order], scores[order]


def enabled(function: Callable, *arguments, **static) -> np.ndarray:
    """Calls with float64 switched on; the answer comes to the host."""
    with jax.enable_x64(True):
        return np.asarray(localise(function(*arguments, **static)))
