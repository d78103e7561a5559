"""Low-precision operands whose product is an upper bound of every score, rounding included.

A row x (centred, in float32) is split into x = lo + delta, lo in bfloat16 or float16. With |.| the Euclidean norm,

    q.p <= lo_q.lo_p + |delta_q| |lo_p| + |q| |delta_p|

and both products of norms are columns of the same matrix product, so the bound costs one pass and is tight for each
pair by itself: one row with a huge norm does not spoil the others. Everything that float32 arithmetic may add is
bounded by the usual n u / (1 - n u) with a fourfold margin (tensor cores truncate), and added.

    S = (q - a).(p - c) + bias_p        euclidean: a = c, bias = -|p - c|^2 / 2
                                        cosine, dot: bias = a.(p - c); S = q.p - q.c
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from demjax.search import operands
from demjax.search.inputs import Rows

UNIT = {"bfloat16": 1.0, "float16": 2.0**12, "float32": 1.0}  # brings the biases into the range of float16
NEVER = {"bfloat16": -(2.0**100), "float16": -(2.0**27), "float32": -(2.0**100)}
TINY = 2.0**-58  # covers squares that vanish below float32's range (data are scaled to magnitudes near 1)


class Context(NamedTuple):
    """Scales [2] of queries and gallery, and what is subtracted from each [d]."""

    scales: Rows
    q_centre: Rows
    g_centre: Rows


class Parts(NamedTuple):
    """Rows x [n, d], their low-precision part lo, and bounds [n] on the lengths of x, lo and delta.

    `placing` is the part of delta that the rounding to lo did not make.
    """

    x: jax.Array
    lo: jax.Array
    length: jax.Array
    lo_length: jax.Array
    delta: jax.Array
    placing: jax.Array


def slack(d: int) -> float:
    """Relative bound on the error of a float32 sum of d products, with margin."""
    return (d + 16) * 2.0**-22


def _norm(x: jax.Array) -> jax.Array:
    """An upper bound of the length of each row."""
    return jnp.sqrt(jnp.sum(x * x, axis=-1)) * (1 + slack(x.shape[-1])) + TINY


def split(rows: jax.Array, scale: Rows, centre: Rows, kind: str, dtype: str) -> Parts:
    """Splits rows into a low-precision part and bounds on what is left."""
    d = rows.shape[-1]
    x = operands.unit(rows) if kind == "cosine" else rows * scale
    x = x - centre[None]
    lo = x.astype(dtype)
    length = _norm(x)
    # Subtraction rounds by u |x|, and a unit vector is one up to the error of its norm.
    placing = 2.0**-23 * length + (slack(d) if kind == "cosine" else 0.0) + TINY
    back = lo.astype(jnp.float32)
    return Parts(x, lo, length + placing, _norm(back), _norm(x - back) + placing, placing)


def _rounded_up(v: jax.Array, dtype: str) -> jax.Array:
    """v in `dtype`, not less than v."""
    info = jnp.finfo(dtype)
    least = max(TINY, 2 * float(info.tiny) * float(info.eps))  # float16 is coarse near zero
    return (v + jnp.abs(v) * (4 * float(info.eps)) + least).astype(dtype)


def _three_columns(v: jax.Array, dtype: str) -> list[jax.Array]:
    """Columns of `dtype` that, times UNIT, 1 and 1, add up to v or very little more."""
    first = (v / UNIT[dtype]).astype(dtype)
    v = v - first.astype(jnp.float32) * UNIT[dtype]
    second = v.astype(dtype)
    return [first, second, _rounded_up(v - second.astype(jnp.float32), dtype)]


def _three_units(like: jax.Array) -> list[jax.Array]:
    """The partners of `_three_columns`."""
    return [jnp.full_like(like[:, 0], unit) for unit in (UNIT[like.dtype.name], 1.0, 1.0)]


def query_operands(
    rows: jax.Array, fields: tuple, context: Context, *, kind: str, dtype: str, several: bool
) -> operands.QueryTile:
    """Operands of a query tile. `several` vectors per query need scores that compare across vectors."""
    flat = rows.reshape(-1, rows.shape[-1])
    part = split(flat, context.scales[0], context.q_centre, kind, dtype)
    error = slack(flat.shape[1])
    query_bias = jnp.zeros_like(part.length)
    if several and kind == "euclidean":
        square = jnp.sum(part.x**2, axis=-1) / 2
        query_bias = -square * (1 - 4 * error)
    # The error of the sum is that of its largest terms: |lo_q| |lo_p| here, the bias with the gallery.
    rounding = _rounded_up(part.delta + 2 * error * part.lo_length, dtype)
    columns = [*_three_units(part.lo), rounding, _rounded_up(part.length, dtype), *_three_columns(query_bias, dtype)]
    return operands.QueryTile(_with_columns(part.lo, columns), part.length, jnp.zeros((rows.shape[0], 2)), fields)


def gallery_operands(
    rows: jax.Array, fields: tuple, valid: jax.Array, context: Context, *, kind: str, dtype: str
) -> operands.GalleryTile:
    """Operands of a gallery tile."""
    part = split(rows, context.scales[1], context.g_centre, kind, dtype)
    error = slack(rows.shape[1])
    if kind == "euclidean":
        bias = -jnp.sum(part.x**2, axis=-1) / 2
        bias = bias + 4 * error * jnp.abs(bias)
    else:
        away = _norm(jnp.asarray(context.q_centre)[None])
        bias = jnp.matmul(part.x, context.q_centre, precision=jax.lax.Precision.HIGHEST)
        bias = bias + away * (part.placing + error * part.length) + 4 * error * jnp.abs(bias)
    bias = jnp.where(valid, bias + TINY, NEVER[dtype])
    columns = [
        *_three_columns(bias, dtype),
        _rounded_up(part.lo_length, dtype),
        _rounded_up(part.delta, dtype),
        *_three_units(part.lo),
    ]
    return operands.GalleryTile(_with_columns(part.lo, columns), valid, fields)


def _with_columns(x: jax.Array, columns: list[jax.Array]) -> jax.Array:
    return jnp.concatenate([x, jnp.stack(columns, axis=1)], axis=1)
