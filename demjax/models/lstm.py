"""LSTMs over sentences: one direction, and both with word vectors and a way into the visual space."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from demjax.models.convolution import OneHotConvolution, alike
from demjax.models.lstm_loop import run_lstm
from demjax.models.mlp import INITIALISERS, scaled_tanh

PADDING = 0
ORTHOGONAL = nnx.initializers.orthogonal()


class LSTM(nnx.Module):
    """h of the last symbol of each sentence, read in one direction, or the mean of h over its symbols.

        i, f, o = sigmoid(W x + U h + b);  g = phi(W x + U h + b);  c = f c + i g;  h = o phi(c)

    phi is tanh or, as the paper's cell, ReLU. The forget gate has a fixed bias: at 1 it begins by halving what it
    knows every second word, at 5 by keeping a sentence whole.
    """

    def __init__(
        self,
        inputs: nnx.Linear | OneHotConvolution,
        n_units: int,
        *,
        cell: str = "tanh",
        forget_bias: float = 0.0,
        init: nnx.Initializer = ORTHOGONAL,
        mean: bool = False,
        rngs: nnx.Rngs,
    ):
        """`inputs` is the map x -> W x, [b, t, 4 n_units] in the order i, f, o, g; symbols are looked up."""
        self.cell, self.n_units, self.forget_bias, self.mean = cell, n_units, forget_bias, mean
        self.inputs = inputs
        bias = init if mean else nnx.initializers.zeros_init()
        self.recurrent = nnx.Linear(n_units, 4 * n_units, kernel_init=init, bias_init=bias, rngs=rngs)

    def __call__(self, x: Array, real: Bool[Array, "b t"], reverse: bool = False) -> Float[Array, "b u"]:
        """`real` is False where a sentence has ended: there the state stays as it is."""
        recurrent: Any = self.recurrent  # its bias is never None
        bias = recurrent.bias[...] + jnp.where(jnp.arange(4 * self.n_units) // self.n_units == 1, self.forget_bias, 0.0)
        if isinstance(self.inputs, OneHotConvolution):  # a row of the table at each step: never [b, t, 4 u] in memory
            rows, ids = self.inputs.table() + bias[None], x.T.astype(jnp.int32)
        else:
            rows, ids = jnp.moveaxis(self.inputs(x), 1, 0) + bias[None, None], None
        kernel = recurrent.kernel[...]
        last, total = run_lstm(self.cell, reverse, *alike(real, rows, kernel), ids, real.T)
        length = jnp.maximum(real.sum(axis=1), 1).astype(total.dtype)
        return total / length[:, None] if self.mean else last


class DescriptionEncoder(nnx.Module):
    """f(sentence) = ReLU(W2 u + b2), u = phi(W_fwd h_fwd + W_bwd h_bwd + b1), phi = ReLU.

    With class attributes a beside it, fused: u = f2(W_fwd h_fwd + W_bwd h_bwd + W_a a + b1), f2 the scaled tanh.

    Reference: Zhang, Xiang & Gong 2017, the branch for descriptions and the fusion with attributes.
    """

    def __init__(
        self,
        n_words: int,
        n_embedding: int,
        n_units: int,
        n_hidden: int,
        n_features: int,
        *,
        n_attributes: int = 0,
        cell: str,
        forget_bias: float = 1.0,
        rngs: nnx.Rngs,
    ):
        kernel, bias = INITIALISERS["he"]
        self.words = nnx.Embed(n_words, n_embedding, embedding_init=nnx.initializers.normal(0.1), rngs=rngs)
        self.forward, self.backward = (
            LSTM(
                nnx.Linear(n_embedding, 4 * n_units, use_bias=False, rngs=rngs), n_units,
                cell=cell, forget_bias=forget_bias, rngs=rngs,
            )
            for _ in range(2)
        )  # fmt: skip
        self.n_attributes = n_attributes
        self.hidden = nnx.Linear(2 * n_units + n_attributes, n_hidden, kernel_init=kernel, bias_init=bias, rngs=rngs)
        self.visual = nnx.Linear(n_hidden, n_features, kernel_init=kernel, bias_init=bias, rngs=rngs)

    def __call__(self, tokens: Int[Array, "b t"], attributes: Float[Array, "b a"] | None = None) -> Float[Array, "b d"]:
        x, real = self.words(tokens), tokens != PADDING
        parts = [self.forward(x, real, False), self.backward(x, real, True)]
        if self.n_attributes and attributes is not None:
            parts.append(attributes)
        u = self.hidden(jnp.concatenate(parts, axis=1))
        return nnx.relu(self.visual(scaled_tanh(u) if self.n_attributes else nnx.relu(u)))
