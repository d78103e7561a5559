"""Valid convolutions over sequences, and maximum pooling.

Each convolution is a sum of matrix products, one for each of its few positions: XLA:CPU has no fast kernel for the
gradients of a one-dimensional convolution, and any device has one for a product.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Integer

from demjax.models.reading import alike, bag

BOUND = 0.08  # Reed et al. start every parameter at U(-0.08, 0.08)


def uniform(key: Array, shape: tuple[int, ...], dtype=jnp.float32, out_sharding=None) -> Array:
    """U(-0.08, 0.08), as an initialiser of Flax."""
    del out_sharding
    return jax.random.uniform(key, shape, dtype, -BOUND, BOUND)


class OneHotConvolution(nnx.Module):
    """y_t = b + sum_k W[k, id_{t+k}]: a convolution over one-hot symbols, looked up instead of multiplied.

    Symbols are numbered from 1; 0 is no symbol, an all-zero column.
    """

    def __init__(self, n_symbols: int, n_out: int, width: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(uniform(rngs.params(), (width, n_symbols, n_out)))
        self.bias = nnx.Param(uniform(rngs.params(), (n_out,)))

    def __call__(self, ids: Integer[Array, "b t"]) -> Float[Array, "b s c"]:
        tables = self._tables()
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
    return table.at[ids.astype(jnp.int32)].get(mode="promise_in_bounds")


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
