"""The text encoders of Reed, Akata, Lee & Schiele, CVPR 2016: rows of symbol numbers into the visual space.

A symbol is a character or a word, numbered from 1; 0 is none. Every encoder ends in a linear layer of the width of the
visual space, and every parameter starts at U(-0.08, 0.08). Layers and sizes are those of the released Torch code, in
ENCODERS; a recurrence is as wide as what it reads. Not published are the sizes and the read-out of the LSTMs: here one
layer of 512 units, mean over the symbols.

A ReLU stands before each pool, where the released code has it too, up to order: both commute.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from demjax.models.convolution import Convolution, OneHotConvolution, max_pool, uniform
from demjax.models.lstm import LSTM
from demjax.models.recurrent import FixedGRU, FixedRNN

CHARACTERS, WORDS, VECTORS = "characters", "words", "vectors"
LENGTHS = {CHARACTERS: 201, WORDS: 30}
_LINEAR = 1024  # between the convolutions and the visual space, in the encoders without a recurrence


class Layer(NamedTuple):
    """A convolution of `n_out` channels and `width` positions, and a pool of `pool` neighbours (1: none)."""

    n_out: int
    width: int
    pool: int = 1
    stride: int = 1


class Encoder(NamedTuple):
    """What an encoder reads (characters, words or vectors), its convolutions, and what comes after them."""

    reads: str
    layers: tuple[Layer, ...] = ()
    then: str = "linear"


_CHARACTER_LAYERS = (Layer(384, 4, 3, 3), Layer(512, 4, 3, 3))
ENCODERS = {
    "char_cnn_rnn": Encoder(CHARACTERS, (*_CHARACTER_LAYERS, Layer(256, 4, 3, 2)), "rnn"),  # 8 steps
    "char_cnn_rnn_long": Encoder(CHARACTERS, (*_CHARACTER_LAYERS, Layer(256, 4)), "rnn"),  # 18 steps
    "char_cnn_gru": Encoder(CHARACTERS, (*_CHARACTER_LAYERS, Layer(512, 4)), "gru"),  # their ICML 2016 paper
    "char_cnn": Encoder(CHARACTERS, (Layer(256, 4, 3, 3),) * 3, "two_linear"),
    "char_cnn_large": Encoder(CHARACTERS, (*_CHARACTER_LAYERS, Layer(512, 4, 3, 3))),
    "char_lstm": Encoder(CHARACTERS, then="lstm"),
    "word_cnn_rnn": Encoder(WORDS, (Layer(512, 3), Layer(512, 2, 3, 3), Layer(512, 2)), "rnn"),  # 8 steps
    "word_cnn": Encoder(WORDS, (Layer(256, 3, 3, 3), Layer(256, 3), Layer(256, 3)), "two_linear"),
    "word_lstm": Encoder(WORDS, then="lstm"),
    "bow": Encoder(WORDS, then="sum"),  # of one vector per word
    "word2vec": Encoder(VECTORS),
    "attributes": Encoder(VECTORS),
}


class TextEncoder(nnx.Module):
    """One of ENCODERS: ids [b, t] or vectors [b, a] -> [b, d].

    Args:
      name: of the encoder.
      n_in: symbols (the alphabet, the vocabulary), or the length of the vectors.
      n_features: d, the width of the visual space.
      width: factor on the width of every inner layer; 1 as published.
      dropout: share of what enters the last layers that is hidden, where a key is given; [0, 1).
    """

    def __init__(
        self, name: str, n_in: int, n_features: int, *, width: float = 1.0, dropout: float = 0.0, rngs: nnx.Rngs
    ):
        self.name, self.dropout = name, dropout
        reads, layers, then = ENCODERS[name]

        def scaled(n: int) -> int:
            return max(1, round(n * width))

        def linear(n_in: int, n_out: int) -> nnx.Linear:
            return nnx.Linear(n_in, n_out, kernel_init=uniform, bias_init=uniform, rngs=rngs)

        inputs, length, convolutions = n_in, LENGTHS.get(reads, 0), list[Any]()
        for layer in layers:
            kind = Convolution if convolutions else OneHotConvolution
            convolutions.append(kind(inputs, scaled(layer.n_out), layer.width, rngs=rngs))
            inputs = scaled(layer.n_out)
            length = (length - layer.width + 1 - layer.pool) // layer.stride + 1
        self.convolutions = nnx.List(convolutions)
        self.visual: Any
        self.recurrent: Any
        if then in ("rnn", "gru"):
            self.recurrent = (FixedRNN if then == "rnn" else FixedGRU)(inputs, inputs, rngs=rngs)
        elif then == "lstm":
            inputs = scaled(512)
            looked_up = OneHotConvolution(n_in, 4 * inputs, 1, rngs=rngs)
            self.recurrent = LSTM(looked_up, inputs, init=uniform, mean=True, rngs=rngs)
        elif then == "sum":
            self.visual = OneHotConvolution(n_in, n_features, 1, rngs=rngs)
            return
        elif layers:  # all steps side by side
            inputs *= length
        if then == "two_linear":
            self.hidden = linear(inputs, scaled(_LINEAR))
            inputs = scaled(_LINEAR)
        self.visual = linear(inputs, n_features)

    def __call__(self, x: Array, keys: Array | None = None) -> Array:
        """`keys` [b] draw the dropout of each row; without them nothing is hidden."""
        _, layers, then = ENCODERS[self.name]
        if then == "sum":
            return self.visual.summed(x)
        h = x
        for convolution, layer in zip(self.convolutions, layers, strict=True):
            h = nnx.relu(max_pool(convolution(h), layer.pool, layer.stride))
        if then == "lstm":
            h = self.recurrent(x, x != 0)
        elif then in ("rnn", "gru"):
            h = self.recurrent(h)
        elif layers:
            h = h.reshape(len(h), -1)
        if then == "two_linear":
            h = self.hidden(h)
        return self.visual(self._hide(h, keys))

    def _hide(self, h: Array, keys: Array | None) -> Array:
        if keys is None or self.dropout == 0:
            return h
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.dropout, h.shape[1:]))(keys)
        return jnp.where(kept, h / (1 - self.dropout), 0.0)
