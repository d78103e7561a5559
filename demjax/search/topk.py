"""The k largest of many, exactly and stably, without sorting the many."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

SHORTEST = 1024  # rows shorter than this gain nothing from groups


def group_length(n: int, k: int) -> int:
    """Length of the groups that makes reading their maxima (n / L) and their members (k L) about equal work."""
    length = 8
    while length < 128 and (2 * length) ** 2 * k <= n:
        length *= 2
    return length


def candidates(scores: Float[Array, "q n"], k: int) -> tuple[Float[Array, "q c"], Int[Array, "q c"]]:
    """A part of the scores of each row and their positions, among which are the k largest; equal scores by position.

    Cut a row into groups of consecutive positions, keep their maxima, and take the k groups with the largest maxima,
    the lower group first on ties. Their members hold the k largest: if a group was left out, k groups stand before
    it, and each holds a member (its maximum) that is larger than everything in the group left out, or equal and at a
    lower position. Where groups would be shorter than 16 this gains nothing: then the k largest themselves.
    """
    q, n = scores.shape
    length = group_length(n, k)
    if n < SHORTEST or n % length or length < 16:
        return _stable(scores, k)
    grouped = scores.reshape(q, n // length, length)
    _, chosen = _stable(grouped.max(axis=-1), k)
    chosen = jnp.sort(chosen, axis=1)
    members = jnp.take_along_axis(grouped, chosen[:, :, None], axis=1).reshape(q, k * length)
    within = jnp.arange(length, dtype=jnp.int32)
    return members, (chosen[:, :, None] * length + within[None, None]).reshape(q, k * length)


def best(scores: Float[Array, "q a"], ids: Int[Array, "q a"], k: int) -> tuple[Float[Array, "q k"], Int[Array, "q k"]]:
    """The k largest scores of each row and their ids, where equal scores stand in the order of their ids."""
    greatest, at = _stable(scores, k)
    return greatest, jnp.take_along_axis(ids, at, axis=1)


def top_k(scores: Float[Array, "q n"], k: int) -> tuple[Float[Array, "q k"], Int[Array, "q k"]]:
    """The k largest scores of each row, largest first, and their positions; of equal ones the lowest positions.

    Equal to a stable sort, in two stages: `candidates`, then the k largest of them. No NaN; -0.0 is equal to 0.0.
    """
    return best(*candidates(scores, k), k)


def _stable(scores: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """lax.top_k is stable, but it puts -0.0 below 0.0: here they are a tie. (`+ 0.0` would be simplified away.)"""
    greatest, at = jax.lax.top_k(jnp.where(scores == 0, 0.0, scores), k)
    return greatest, at
