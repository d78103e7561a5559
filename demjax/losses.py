"""Loss terms as pure functions: per row, never averaged. The engine divides once, by the global count."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def squared_distance(x: Float[Array, "b d"], y: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Squared Euclidean distance of each pair of rows: sum_d (x_bd - y_bd)^2.

    Reference: Zhang, Xiang & Gong 2017, the data term of the objective L(W1, W2).
    """
    return jnp.sum(jnp.square(x - y), axis=-1)


def squared_norm(params: Any, *, biases: bool) -> Float[Array, ""]:
    """Sum of squares of all weights; with `biases`, of the vectors too (a weight has two axes or more)."""
    leaves = [p for p in jax.tree.leaves(params) if biases or p.ndim > 1]
    return sum((jnp.sum(jnp.square(p)) for p in leaves), start=jnp.float32(0.0))
