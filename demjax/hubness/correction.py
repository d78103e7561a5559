"""Corrections that even out hubness: a score of a query and an item becomes one that knows how often each is near.

A correction is a pure function on a tile of scores and the statistics of its rows and columns, so that a search
applies it block by block and sharded. Scores: greater is nearer. They are the cosine similarity s, or, for the
distance family, s = -d with d the Euclidean distance. Statistics of the distance family are of d, so >= 0.

Rectangular: a statistic of a gallery item is over the bank -> that item, of a query over that query -> the gallery
(r_T of CSLS, radii, moments); never over gallery -> gallery. `methods.py` says when a result is inductive.

For a fixed query CSLS, NNN, the inverted softmax and DisSim-Local rank by s (d^2) plus one bias per gallery item:
the bias folds into one more dimension of the vectors, (x, 1) . (y, bias), and any index applies it for free. NICDM
and local scaling are one factor per item. Mutual proximity and the global correction are neither.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from demjax.checks import UserError
from demjax.search.score import AnyScore

PerQuery = Float[Array | np.ndarray, " q"]
PerItem = Float[Array | np.ndarray, " g"]
Tile = Float[Array | np.ndarray, "q g"]


class Correction(NamedTuple):
    """A correction with its statistics.

    Attributes:
      apply: `apply(scores [q, g], query, gallery) -> [q, g]` on a tile, jit-able, greater is nearer. A function of
        a module: as a static argument of jit it compiles once for all statistics.
      query: arrays with one leading row per query. A tile gets the rows of its queries.
      gallery: arrays with one leading row per gallery item. A tile gets the rows of its items.
      score: the scores it is for: the name of a kind, or the `Score` or `Pair` that `fit` was called with.

    Rows of padding may give anything, NaN too: mask them after `apply`.
    """

    apply: Callable[[Any, tuple, tuple], Any]
    query: tuple
    gallery: tuple
    score: AnyScore


def rows(name: str, values: Any, ndim: int = 1, least: int | float | None = None) -> np.ndarray:
    """`values` as float32 with one leading row per query or item; a UserError names what is wrong with them."""
    array = np.asarray(values, np.float32)
    if array.ndim != ndim or array.size == 0:
        raise UserError(f"{name} has shape {array.shape}: expected {ndim} dimension{'s' * (ndim > 1)}, not empty")
    wrong = ~np.isfinite(array) if least is None else ~(np.isfinite(array) & (array >= least))
    if wrong.any():
        row = int(np.argwhere(wrong)[0][0])
        expected = "finite numbers" if least is None else f"finite numbers >= {least}"
        raise UserError(f"{name} row {row} is {array[wrong][0]}: expected {expected}")
    return array


def positive(name: str, values: Any) -> np.ndarray:
    """As `rows`, and > 0."""
    array = rows(name, values, least=0)
    if (array == 0).any():
        row = int(np.argmin(array))
        raise UserError(f"{name} row {row} is 0: expected > 0; k duplicates or more have distance 0, take a greater k")
    return array


def constant(value: int | float, n: int) -> np.ndarray:
    """A parameter as a field: one copy for each of n rows, so that changing it compiles nothing again."""
    return np.full(n, value, np.float32)
