"""Softmax regression over the seen classes, p(s | x) = softmax(x V + b): where ConSE and IAP begin.

Batch fields: features [b, d], label [b], weight [b]; constants: seen [s].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from demjax import losses
from demjax.tasks.task import Variables
from demjax.tasks.zsl.inputs import Scaler


def undecided(n_in: int, n_out: int) -> Callable:
    """(key) -> Variables of x V + b, all zeros."""
    zeros = jnp.zeros
    return lambda key: Variables({"weights": zeros((n_in, n_out), jnp.float32), "bias": zeros(n_out, jnp.float32)})


def logits(scaler: Scaler) -> Callable:
    """(variables, features) -> x V + b."""

    def of(variables, features):
        return scaler.scale(variables.state, features) @ variables.params["weights"] + variables.params["bias"][None]

    return of


def seen_probabilities(scaler: Scaler) -> Callable:
    """(variables, features) -> p(s | x) [b, s]."""
    return lambda variables, features: jax.nn.softmax(logits(scaler)(variables, features), axis=1)


def seen_cross_entropy(scaler: Scaler) -> Callable:
    """The loss: cross-entropy of the true class among the seen ones."""

    def loss(variables, batch, key, axis):
        del key, axis
        truth = jnp.searchsorted(batch["seen"], batch["label"])
        each = losses.softmax_cross_entropy(logits(scaler)(variables, batch["features"]), truth)
        return jnp.sum(batch["weight"] * each), jnp.sum(batch["weight"]), {}, variables.state

    return loss
