"""Networks that carry class semantics into the visual space, or images into the semantic one."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

# name -> (kernel initialiser, bias initialiser)
INITIALISERS = {
    "he": (nnx.initializers.he_normal(), nnx.initializers.zeros_init()),
    # The released scripts: truncated normal of stddev 0.1 cut at two sigma and *not* corrected for the cut.
    "released": (nnx.initializers.truncated_normal(0.1), nnx.initializers.constant(0.1)),
    "small": (nnx.initializers.normal(0.02), nnx.initializers.zeros_init()),  # CVC
}


def uniform(bound: float) -> nnx.Initializer:
    """U(-bound, bound)."""
    return lambda key, shape, dtype=jnp.float32, out_sharding=None: jax.random.uniform(key, shape, dtype, -bound, bound)


OUTPUTS = {"relu": nnx.relu, "linear": lambda x: x}


class SemanticEncoder(nnx.Module):
    """f(y) = out(W2 ReLU(W1 y + b1) + b2), out = ReLU; with n_hidden = 0 one layer, out(W y + b).

    With the ReLU the output is never negative, as CNN features after a ReLU or average pooling are; `linear` is for
    spaces with signs.

    Reference: Zhang, Xiang & Gong 2017, the branch for one kind of semantics; the released script for word vectors
    has no hidden layer.
    """

    def __init__(
        self, n_semantics: int, n_hidden: int, n_features: int, *, init: str, output: str = "relu", rngs: nnx.Rngs
    ):
        kernel, bias = INITIALISERS[init]
        self.has_hidden, self.output = n_hidden > 0, output
        if n_hidden:
            self.hidden = nnx.Linear(n_semantics, n_hidden, kernel_init=kernel, bias_init=bias, rngs=rngs)
        self.visual = nnx.Linear(n_hidden or n_semantics, n_features, kernel_init=kernel, bias_init=bias, rngs=rngs)

    def __call__(self, semantics: Float[Array, "b a"]) -> Float[Array, "b d"]:
        h = nnx.relu(self.hidden(semantics)) if self.has_hidden else semantics
        return OUTPUTS[self.output](self.visual(h))


def scaled_tanh(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """1.7159 tanh(2 x / 3): variance about one for inputs of variance one.

    Reference: LeCun, Bottou, Orr & Müller 1998; f2 of Zhang, Xiang & Gong 2017.
    """
    return 1.7159 * jnp.tanh(x * (2 / 3))


class FusedEncoder(nnx.Module):
    """Several sources of semantics, y_1 ... y_n side by side in one vector, and one visual layer.

        paper     f(y) = out(W h + b),  h = f2(sum_i w_i (W_i y_i + b_i)),  f2 the scaled tanh
        released  f(y) = out(W h + b),  h = sum_i w_i tanh(W_i y_i + b_i)

    Reference: Zhang, Xiang & Gong 2017, multi-modality fusion; released: their script `AwA_fusion.py`, where the
    attributes have weight 3 and the word vectors 1.
    """

    def __init__(
        self,
        widths: Sequence[int],
        n_hidden: int,
        n_features: int,
        *,
        fusion: str,
        weights: Sequence[float],
        init: str,
        output: str = "relu",
        rngs: nnx.Rngs,
    ):
        kernel, bias = INITIALISERS[init]
        self.ends = tuple(sum(widths[: i + 1]) for i in range(len(widths) - 1))
        self.fusion, self.weights, self.output = fusion, tuple(weights), output
        self.branches = nnx.List(
            [nnx.Linear(a, n_hidden, kernel_init=kernel, bias_init=bias, rngs=rngs) for a in widths]
        )
        self.visual = nnx.Linear(n_hidden, n_features, kernel_init=kernel, bias_init=bias, rngs=rngs)

    def __call__(self, semantics: Float[Array, "b a"]) -> Float[Array, "b d"]:
        sources = jnp.split(semantics, self.ends, axis=1)
        parts = [branch(y) for branch, y in zip(self.branches, sources, strict=True)]
        if self.fusion == "released":
            parts = [jnp.tanh(p) for p in parts]
        h = jnp.zeros_like(parts[0])
        for weight, part in zip(self.weights, parts, strict=True):
            h += weight * part
        return OUTPUTS[self.output](self.visual(scaled_tanh(h) if self.fusion == "paper" else h))
