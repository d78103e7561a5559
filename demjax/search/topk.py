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


def top_k(scores: Float[Array, "q n"], k: int) -> tuple[Float[Array, "q k"], Int[Array, "q k"]]:
    """The k largest scores of each row, largest first, and their positions; of equal ones the lowest positions.

    Two stages. Cut a row into groups of consecutive positions and keep their maxima; take the k groups with
    the largest maxima, the lower group first on ties; then take the k largest of their members. This is exact:
    if a group was left out, k groups stand before it, and each holds a member (its maximum) that is larger than
    everything in the group left out, or equal and at a lower position.

    Args:
      scores: no NaN. -0.0 counts as equal to 0.0.
      k: 1 <= k <= n.

    Returns:
      (scores, positions), equal to those of a stable sort.
    """
    q, n = scores.shape
    length = group_length(n, k)
    groups = n // length
    if n < SHORTEST or n % length or 4 * k > groups:
        return _plain(scores, k)
    grouped = scores.reshape(q, groups, length)
    _, chosen = _plain(grouped.max(axis=-1), k)
    chosen = jnp.sort(chosen, axis=1)  # members again in the order of their positions, for the ties
    members = jnp.take_along_axis(grouped, chosen[:, :, None], axis=1).reshape(q, k * length)
    found, at = _plain(members, k)
    return found, jnp.take_along_axis(chosen, at // length, axis=1) * length + at % length


def _plain(scores: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """lax.top_k is stable, but it puts -0.0 below 0.0: here they are a tie. (`+ 0.0` would be simplified away.)"""
    found, at = jax.lax.top_k(jnp.where(scores == 0, 0.0, scores), k)
    return found, at


def merge(scores: Float[Array, "q a"], ids: Int[Array, "q a"], k: int) -> tuple[Float[Array, "q k"], Int[Array, "q k"]]:
    """The k largest of scores that carry ids, where equal scores already stand in the order of their ids."""
    found, at = _plain(scores, k)
    return found, jnp.take_along_axis(ids, at, axis=1)
