"""Checks of what the metrics receive: masks, values of k, ids, scores without NaN."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Shaped

from demjax.checks import UserError, listed

Rows = jax.Array | np.ndarray
Scores: TypeAlias = Float[Array | np.ndarray, "n c"]  # of n images with c classes or labels; greater is nearer
Labels: TypeAlias = Shaped[Array | np.ndarray, "n c"]  # 1 positive, -1 verified negative, 0 unverified
Ids: TypeAlias = Integer[Array | np.ndarray, " n"]
Flags: TypeAlias = Bool[Array | np.ndarray, " n"]
Mask: TypeAlias = Flags | None  # False leaves a row out


def namespace(array: Rows) -> ModuleType:
    """jax.numpy for arrays of JAX, which stay on their device; NumPy for the others, which keep their float64."""
    return jnp if isinstance(array, jax.Array) else np


def kept_rows(mask: Rows | None, n: int) -> np.ndarray:
    """The mask [n] as NumPy booleans; None: every row counts. Numbers are refused: 0 and 1 would name rows."""
    if mask is None:
        return np.ones(n, bool)
    kept = np.asarray(mask)
    if kept.shape != (n,) or kept.dtype != bool:
        raise UserError(f"the mask is {kept.dtype} {kept.shape}: expected one boolean for each of {n} rows")
    return kept


def refuse_rows(bad: np.ndarray, got: str, expected: str) -> None:
    """A UserError that names the first rows of `bad` [n]."""
    if bad.any():
        raise UserError(f"{got} in row {listed(np.flatnonzero(bad))}: expected {expected}")


def refuse_nan(scores: Rows, kept: np.ndarray) -> None:
    """A UserError that names the rows of `scores` [n, c] with a NaN, masked rows apart."""
    nan = np.asarray(namespace(scores).isnan(scores).any(axis=1))
    refuse_rows(nan & kept, "scores are NaN", "a number for every candidate; masked rows may hold anything")


def check_ids(ids: np.ndarray, kept: np.ndarray, n_classes: int) -> None:
    """A UserError that names the rows whose class id is not in [0, n_classes)."""
    foreign = kept & ((ids < 0) | (ids >= n_classes))
    refuse_rows(foreign, "the class id is out of range", f"0 to {n_classes - 1}; leave padding out by the mask")


def check_ks(ks: Sequence[Any]) -> None:
    """A UserError unless `ks` holds at least one k: whole numbers, each 1 or more and once."""
    whole = all(isinstance(k, int | np.integer) and not isinstance(k, bool) for k in ks)
    if len(ks) == 0 or not whole or min(ks) < 1 or len(set(ks)) < len(ks):
        raise UserError(f"ks is {tuple(ks)}: expected at least one k, each a whole number of 1 or more, and once")
