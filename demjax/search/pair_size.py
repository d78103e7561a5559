"""What the function of a Pair needs, from a trace of it: no number is computed."""

from typing import Any

import jax
import numpy as np

from demjax.checks import UserError
from demjax.search.score import Pair, described

QUERIES, GALLERY = 1009, 1013  # primes: only an array with numbers for every pair has a size that both divide


def numbers_per_pair(pair: Pair, queries: Any, gallery: Any) -> int:
    """float32 numbers that the largest array within the function holds for each query and gallery row; at least 1."""
    sides = (jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype) for n, x in ((QUERIES, queries), (GALLERY, gallery)))
    traced, result = jax.make_jaxpr(pair.function, return_shape=True)(pair.variables, *sides)
    shape, dtype = getattr(result, "shape", None), getattr(result, "dtype", None)
    if shape != (QUERIES, GALLERY) or dtype != np.float32:
        tried = f"{QUERIES} queries and {GALLERY} gallery rows"
        expected = f"float32 [q, g], {(QUERIES, GALLERY)}"
        raise UserError(f"{described(pair)} gives {dtype} {shape} for {tried}: expected {expected}")
    return max(1, _largest(traced.jaxpr))


def _largest(jaxpr: Any) -> int:
    """The most float32 numbers for each pair that a result within a jaxpr holds."""
    most = 0
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            size, itemsize = getattr(variable.aval, "size", 0), getattr(variable.aval.dtype, "itemsize", 4)
            if size % (QUERIES * GALLERY) == 0:
                most = max(most, -(-size * itemsize // (4 * QUERIES * GALLERY)))
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    most = max(most, _largest(inner))
    return most
