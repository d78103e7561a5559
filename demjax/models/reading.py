"""Reading a sentence by an LSTM and as a bag of words, with gradients written by hand.

An LSTM takes no step beyond the longest sentence of the batch: a loop of that many steps has no automatic gradient.
And the gradient of its recurrent weights is one product over all steps, where the automatic one adds a matrix of the
size of the weights at every step. A bag of words looks rows up to encode, and multiplies counts to be trained.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

CELLS = {"relu": nnx.relu, "tanh": nnx.tanh}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def read(
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

    def step(k: Array, carry: Any) -> Any:
        h, c, total = carry
        t = _time(k, reverse, real)
        h, c = _moved(cell, _row(rows, ids, t) + h @ kernel, h, c, real[t])
        return h, c, total + jnp.where(real[t][:, None], h, 0.0)

    h, _, total = jax.lax.fori_loop(0, _longest(real), step, (_zeros(real, kernel),) * 3)
    return h, total


def _forward(cell: str, reverse: bool, rows: Array, kernel: Array, ids: Array | None, real: Array) -> tuple[Any, Any]:
    """`read`, with the gates and states before each step kept."""

    def step(k: Array, carry: Any) -> Any:
        h, c, total, kept = carry
        t = _time(k, reverse, real)
        z = _row(rows, ids, t) + h @ kernel
        kept = tuple(array.at[t].set(now) for array, now in zip(kept, (z, h, c), strict=True))
        h, c = _moved(cell, z, h, c, real[t])
        return h, c, total + jnp.where(real[t][:, None], h, 0.0), kept

    zeros = _zeros(real, kernel)
    everywhere = jnp.zeros((len(real), 1, 1), zeros.dtype)
    kept = everywhere + jnp.tile(zeros, 4)[None], everywhere + zeros[None], everywhere + zeros[None]
    h, _, total, kept = jax.lax.fori_loop(0, _longest(real), step, (zeros, zeros, zeros, kept))
    return (h, total), (rows, kernel, ids, real, kept)


def _backward(cell: str, reverse: bool, saved: Any, given: tuple[Array, Array]) -> tuple[Any, ...]:
    rows, kernel, ids, real, (gates, states, cells) = saved
    n, (d_last, d_total) = _longest(real), given

    def step(k: Array, carry: Any) -> Any:
        dh, dc, gates = carry
        t = _time(n - 1 - k, reverse, real)
        dh = dh + jnp.where(real[t][:, None], d_total, 0.0)
        _, pull = jax.vjp(lambda z, h, c: _moved(cell, z, h, c, real[t]), gates[t], states[t], cells[t])
        dz, dh, dc = pull((dh, dc))
        return dh + dz @ kernel.T, dc, gates.at[t].set(dz)  # over the gates, which nobody needs any more

    _, _, dz = jax.lax.fori_loop(0, n, step, (d_last, jnp.zeros_like(d_last), gates))
    d_kernel = jnp.einsum("tbu,tbz->uz", states, dz)
    if ids is None:
        return dz, d_kernel, None, None
    often = jax.nn.one_hot(ids, len(rows), dtype=dz.dtype)
    return jnp.einsum("tbn,tbz->nz", often, dz), d_kernel, None, None


read.defvjp(_forward, _backward)


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


@jax.custom_vjp
def bag(table: Float[Array, "n c"], ids: Int[Array, "b t"]) -> Float[Array, "b c"]:
    """sum_t table[id_t]. (Its automatic gradient, and a loop over t, train eight times slower.)"""
    looked_up = (table.at[ids[:, t]].get(mode="promise_in_bounds") for t in range(ids.shape[1]))
    return functools.reduce(jnp.add, looked_up)


def _bag_forward(table: Array, ids: Array) -> tuple[Array, Array]:
    often = jnp.zeros((len(ids), len(table))).at[jnp.arange(len(ids))[:, None], ids].add(1.0)
    return often @ table, often


bag.defvjp(_bag_forward, lambda often, given: (often.T @ given, None))


def alike(data: Array, *arrays: Array) -> tuple[Array, ...]:
    """The arrays, unchanged, as different on each device as `data` is: a gradient written by hand needs it so."""
    either = data.ravel()[0]
    return tuple(jnp.where(either, a, a) for a in arrays)
