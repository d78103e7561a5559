"""Valid convolutions over sequences, and maximum pooling.

Each convolution is a sum of matrix products, one for each of its few positions: XLA:CPU has no fast kernel for the
gradients of a one-dimensional convolution, and any device has one for a product. A bag of words looks rows up to
encode, and multiplies counts to be trained.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Integer

from demjax.models import mlp

BOUND = 0.08  # Reed et al. start every parameter at U(-0.08, 0.08)
uniform = mlp.uniform(BOUND)


class OneHotConvolution(nnx.Module):
    """y_t = b + sum_k W[k, id_{t+k}]: a convolution over one-hot symbols, looked up instead of multiplied.

    Symbols are numbered from 1; 0 is no symbol, an all-zero column.
    """

    def __init__(self, n_symbols: int, n_out: int, width: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(uniform(rngs.params(), (width, n_symbols, n_out)))
        self.bias = nnx.Param(uniform(rngs.params(), (n_out,)))

    def __call__(self, ids: Integer[Array, "b t"]) -> Float[Array, "b s c"]:
        tables, ids = self._tables(), ids.astype(jnp.int32)
        width = len(tables)
        parts = [_rows(tables[k], _window(ids, k, width)) for k in range(width)]
        return functools.reduce(jnp.add, parts) + self.bias[...][None, None]

    def summed(self, ids: Integer[Array, "b t"]) -> Float[Array, "b c"]:
        """b + sum_t W[0, id_t]."""
        ids = ids.astype(jnp.int32)
        return bag(*alike(ids, self._tables()[0]), ids) + self.bias[...][None]

    def table(self) -> Float[Array, "n c"]:
        """What each symbol adds at position 0, with the bias; row 0: no symbol."""
        return self._tables()[0] + self.bias[...][None]

    def _tables(self) -> Float[Array, "k n c"]:
        """The kernel behind a row of zeros for no symbol. (Rows out of bounds that read as 0 train 20 times slower.)"""
        return jnp.pad(self.kernel[...], ((0, 0), (1, 0), (0, 0)))


def _rows(table: Array, ids: Array) -> Array:
    return table.at[ids].get(mode="promise_in_bounds")


@jax.custom_vjp
def bag(table: Float[Array, "n c"], ids: Int[Array, "b t"]) -> Float[Array, "b c"]:
    """sum_t table[id_t]. (Its automatic gradient, and a loop over t, train eight times slower.)"""
    looked_up = (_rows(table, ids[:, t]) for t in range(ids.shape[1]))
    return functools.reduce(jnp.add, looked_up)


def _bag_forward(table: Array, ids: Array) -> tuple[Array, Array]:
    often = jnp.zeros((len(ids), len(table))).at[jnp.arange(len(ids))[:, None], ids].add(1.0)
    return often @ table, often


bag.defvjp(_bag_forward, lambda often, gradient: (often.T @ gradient, None))


def alike(data: Array, *arrays: Array) -> tuple[Array, ...]:
    """The arrays, unchanged, as different on each device as `data` is: a gradient written by hand needs it so."""
    either = data.ravel()[0]
    return tuple(jnp.where(either, a, a) for a in arrays)


class Convolution(nnx.Module):
    """y_t = b + sum_k W_k x_{t+k}, stride 1."""

    def __init__(self, n_in: int, n_out: int, width: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(uniform(rngs.params(), (width, n_in, n_out)))
        self.bias = nnx.Param(uniform(rngs.params(), (n_out,)))

    def __call__(self, x: Float[Array, "b t c"]) -> Float[Array, "b s o"]:
        kernel = self.kernel[...]
        width = len(kernel)
        x = jnp.concatenate([_window(x, k, width) for k in range(width)], axis=2)
        return x @ kernel.reshape(-1, kernel.shape[2]) + self.bias[...][None, None]


def _window(x: Array, k: int, width: int) -> Array:
    """What position k of a kernel sees of a sequence [b, t, ...]."""
    return x[:, k : x.shape[1] - width + 1 + k]


def max_pool(x: Float[Array, "b t c"], width: int, stride: int) -> Float[Array, "b s c"]:
    """The largest of `width` neighbours, every `stride` steps; incomplete windows are left out."""
    last = (x.shape[1] - width) // stride * stride
    return functools.reduce(jnp.maximum, [x[:, k : k + last + 1 : stride] for k in range(width)])
