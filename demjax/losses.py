"""Loss terms as pure functions: per row, never averaged. The engine divides once, by the global count."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer


def squared_distance(x: Float[Array, "b d"], y: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Squared Euclidean distance of each pair of rows: sum_d (x_bd - y_bd)^2.

    Reference: Zhang, Xiang & Gong 2017, the data term of the objective L(W1, W2).
    """
    return jnp.sum(jnp.square(x - y), axis=-1)


def squared_norm(params: Any, *, biases: bool) -> Float[Array, ""]:
    """Sum of squares of all weights; with `biases`, of the vectors too (a weight has two axes or more)."""
    leaves = [p for p in jax.tree.leaves(params) if biases or p.ndim > 1]
    return sum((jnp.sum(jnp.square(p)) for p in leaves), start=jnp.float32(0.0))


def unit_rows(x: Float[Array, "b d"], epsilon: float = 1e-12) -> Float[Array, "b d"]:
    """Rows at length 1; shorter ones than `epsilon` stay near zero, with a finite gradient."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), epsilon**2))


def softmax_cross_entropy(scores: Float[Array, "b c"], truth: Integer[Array, " b"]) -> Float[Array, " b"]:
    """-log softmax(scores)[truth] of each row."""
    return jax.nn.logsumexp(scores, axis=1) - _of_truth(scores, truth)


def violations(scores: Float[Array, "b c"], truth: Integer[Array, " b"], margin: Any) -> Float[Array, "b c"]:
    """max(0, margin + s_bj - s_bt) for every class j but the true one t, where it is 0."""
    over = jnp.maximum(0.0, margin + scores - _of_truth(scores, truth)[:, None])
    return jnp.where(jnp.arange(scores.shape[1])[None] == truth[:, None], 0.0, over)


def _of_truth(scores: jax.Array, truth: jax.Array) -> jax.Array:
    return jnp.take_along_axis(scores, truth[:, None], axis=1)[:, 0]
