"""Softmax regression over the seen classes, p(s | x) = softmax(x V + b): where ConSE and IAP begin.

Batch fields: features [b, d], label [b], weight [b]; constants: seen [s].
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from demjax import losses
from demjax.tasks.task import Batch, Variables
from demjax.tasks.zsl.trained import truth


def undecided(n_in: int, n_out: int) -> Callable[[Any], dict[str, jax.Array]]:
    """(key) -> V and b, all zeros."""
    zeros = jnp.zeros
    return lambda key: {"weights": zeros((n_in, n_out), jnp.float32), "bias": zeros(n_out, jnp.float32)}


def logits(variables: Variables, x: jax.Array) -> jax.Array:
    """x V + b."""
    return x @ variables.params["weights"] + variables.params["bias"][None]


def probabilities(variables: Variables, x: jax.Array) -> jax.Array:
    """p(s | x) [b, s]."""
    return jax.nn.softmax(logits(variables, x), axis=1)


def cross_entropy(variables: Variables, x: jax.Array, batch: Batch) -> jax.Array:
    """Cross-entropy of the true class among the seen ones [b]."""
    return losses.softmax_cross_entropy(logits(variables, x), truth(batch))
