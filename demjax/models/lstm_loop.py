"""An LSTM that stops at the longest sentence of the batch, with its gradient written by hand.

A loop of that many steps has no automatic gradient. And the gradient of the recurrent weights is one product over all
steps, where the automatic one adds a matrix of the size of the weights at every step.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from demjax.models.convolution import alike

CELLS = {"relu": nnx.relu, "tanh": nnx.tanh}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def run_lstm(
    cell: str,
    reverse: bool,
    rows: Float[Array, "n u4"] | Float[Array, "t b u4"],
    kernel: Float[Array, "u u4"],
    ids: Int[Array, "t b"] | None,
    real: Bool[Array, "t b"],
) -> tuple[Float[Array, "b u"], Float[Array, "b u"]]:
    """h after the last symbol, and the sum of h over all symbols.

    Args:
      cell: activation, a key of CELLS.
      reverse: from the last symbol to the first.
      rows: what the symbols add to the gates i, f, o, g: a row for each symbol of the alphabet, or each step's own.
      kernel: U.
      ids: rows of the symbols; None where each step has its own.
      real: False after the end of a sentence; there the state stays as it is.
    """

    return _loop(cell, reverse, rows, kernel, ids, real, ())[:2]


def _loop(cell: str, reverse: bool, rows: Array, kernel: Array, ids: Array | None, real: Array, kept: Any) -> Any:
    """The results of `run_lstm` and, written to the arrays `kept` (or none), gates, h and c before each step."""

    def step(k: Array, carry: Any) -> Any:
        h, c, total, kept = carry
        t = _time(k, reverse, real)
        z = _row(rows, ids, t) + h @ kernel
        kept = tuple(array.at[t].set(now) for array, now in zip(kept, (z, h, c), strict=False))
        h, c = _moved(cell, z, h, c, real[t])
        return h, c, total + jnp.where(real[t][:, None], h, 0.0), kept

    zeros = _zeros(real, kernel)
    h, _, total, kept = jax.lax.fori_loop(0, _longest(real), step, (zeros, zeros, zeros, kept))
    return h, total, kept


def _forward(cell: str, reverse: bool, rows: Array, kernel: Array, ids: Array | None, real: Array) -> tuple[Any, Any]:
    zeros = _zeros(real, kernel)
    everywhere = jnp.zeros((len(real), 1, 1), zeros.dtype)
    kept = everywhere + jnp.tile(zeros, 4)[None], everywhere + zeros[None], everywhere + zeros[None]
    h, total, kept = _loop(cell, reverse, rows, kernel, ids, real, kept)
    return (h, total), (rows, kernel, ids, real, kept)


def _backward(cell: str, reverse: bool, saved: Any, gradients: tuple[Array, Array]) -> tuple[Any, ...]:
    rows, kernel, ids, real, (gates, states, cells) = saved
    n, (d_last, d_total) = _longest(real), gradients

    def step(k: Array, carry: Any) -> Any:
        dh, dc, gates = carry
        t = _time(n - 1 - k, reverse, real)
        dh = dh + jnp.where(real[t][:, None], d_total, 0.0)
        _, pull = jax.vjp(lambda z, h, c: _moved(cell, z, h, c, real[t]), gates[t], states[t], cells[t])
        dz, dh, dc = pull((dh, dc))
        return dh + dz @ kernel.T, dc, gates.at[t].set(dz)  # in place of the gates, which no later step reads

    _, _, dz = jax.lax.fori_loop(0, n, step, (d_last, jnp.zeros_like(d_last), gates))
    d_kernel = jnp.einsum("tbu,tbz->uz", states, dz)
    if ids is None:
        return dz, d_kernel, None, None
    often = jax.nn.one_hot(ids, len(rows), dtype=dz.dtype)
    return jnp.einsum("tbn,tbz->nz", often, dz), d_kernel, None, None


run_lstm.defvjp(_forward, _backward)


def _moved(cell: str, z: Array, h: Array, c: Array, real: Array) -> tuple[Array, Array]:
    """h and c one symbol on, where there is one."""
    i, f, o, g = jnp.split(z, 4, axis=1)
    new = nnx.sigmoid(f) * c + nnx.sigmoid(i) * CELLS[cell](g)
    there = real[:, None]
    return jnp.where(there, nnx.sigmoid(o) * CELLS[cell](new), h), jnp.where(there, new, c)


def _row(rows: Array, ids: Array | None, t: Array) -> Array:
    return rows[t] if ids is None else rows.at[ids[t]].get(mode="promise_in_bounds")


def _time(k: Array, reverse: bool, real: Array) -> Array:
    return _longest(real) - 1 - k if reverse else k


def _longest(real: Array) -> Array:
    """The position after the last symbol of any sentence."""
    there = real.any(axis=1)
    return jnp.max(jnp.where(there, jnp.arange(len(there)) + 1, 0))


def _zeros(real: Array, kernel: Array) -> Array:
    return alike(real, jnp.zeros((real.shape[1], len(kernel)), kernel.dtype))[0]
