"""The network of class normalisation: the classes of a forward pass are its batch."""

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from demjax.models.mlp import uniform

DIVIDE_BY = ("std", "variance", "none")
OUTPUT_INIT = ("class_norm", "default")


def standardise(
    h: Float[Array, "g h"], of: Float[Array, "s h"], divide_by: str, epsilon: float = 1e-5
) -> Float[Array, "g h"]:
    """(h - mean) / D with the mean and the unbiased variance v over the classes `of`, per feature.

    D = sqrt(v + epsilon) as in eq. (9) (`std`); `variance` is v + epsilon, as the authors' notebook has it.
    """
    if divide_by == "none":
        return h
    variance = jnp.var(of, axis=0, ddof=1) + epsilon
    return (h - of.mean(axis=0)[None]) / (jnp.sqrt(variance) if divide_by == "std" else variance)[None]


class ClassNormEncoder(nnx.Module):
    """Linear, ReLU; Linear, CS, ReLU, CS; Linear, ReLU, with CS the standardisation over the seen classes.

    Weights and biases start U(-1/sqrt(n), 1/sqrt(n)) for n inputs; with `output_init` "class_norm" the last weights
    have the variance 1 / (n_hidden n_features) of eq. (10).

    Reference: Skorokhodov & Elhoseiny 2021, "Class normalization for (continual?) generalized zero-shot learning".
    """

    def __init__(
        self, n_semantics: int, n_hidden: int, n_features: int, *, divide_by: str, output_init: str, rngs: nnx.Rngs
    ):
        def linear(n_in: int, n_out: int, bound: float | None = None) -> nnx.Linear:
            usual = 1 / math.sqrt(n_in)
            return nnx.Linear(n_in, n_out, kernel_init=uniform(bound or usual), bias_init=uniform(usual), rngs=rngs)

        self.divide_by = divide_by
        self.first = linear(n_semantics, n_hidden)
        self.second = linear(n_hidden, n_hidden)
        last = math.sqrt(3 / (n_hidden * n_features)) if output_init == "class_norm" else None
        self.visual = linear(n_hidden, n_features, last)

    def __call__(self, classes: Float[Array, "g a"], seen: Float[Array, "s a"]) -> Float[Array, "g d"]:
        """Prototypes of `classes`; the statistics are always those of `seen`: unseen classes add nothing to them."""
        h, of = (self.second(nnx.relu(self.first(x))) for x in (classes, seen))
        for activation in (nnx.relu, lambda x: x):
            h, of = (activation(standardise(x, of, self.divide_by)) for x in (h, of))
        return nnx.relu(self.visual(h))
