"""What a search compares queries and gallery rows by."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from demjax.checks import UserError, choose

SCORES = {
    "euclidean": "minus the distance",
    "cosine": "cosine of the angle, 0 with a zero vector",
    "dot": "inner product",
}


class Score(NamedTuple):
    """A score that is computed from a product of vectors.

    Attributes:
      kind: `euclidean`, `cosine` or `dot`.
      vectors: m, vectors per query: queries are [q, m, d], with m = 1 also [q, d].
      mean_of_best: the score of a query with a gallery row is the mean of that many of its m vector scores, the
        greatest ones; 1 is the maximum, m the mean of all.
    """

    kind: str = "euclidean"
    vectors: int = 1
    mean_of_best: int = 1


class Pair(NamedTuple):
    """A score that is no product of two vectors.

    Attributes:
      function: (variables, queries [q, ...], gallery [g, ...]) -> float32 [q, g], greater is nearer; jit-able, and
        called with a tile of each side at a time. The score of a pair may depend on no other row. A function of a
        module is compiled once; a closure is compiled anew each time it is made.
      variables: a tree of arrays, the same on every device.
    """

    function: Callable
    variables: Any = ()


AnyScore: TypeAlias = str | Score | Pair


def checked_score(score: Any, queries: Any) -> Score | Pair:
    """`score` as a Score or a Pair; the name of a kind is the maximum over all vectors of a query."""
    shape: tuple[int, ...] = getattr(queries, "shape", ())
    if isinstance(score, Pair):
        if not callable(score.function):
            raise UserError(f"Pair.function is {score.function!r}: expected a function (variables, queries, gallery)")
        return score
    if not isinstance(score, Score):
        choose("score", score, SCORES)
        return Score(score, shape[1] if len(shape) == 3 else 1)
    choose("Score.kind", score.kind, SCORES)
    for name, value, most in (("vectors", score.vectors, None), ("mean_of_best", score.mean_of_best, score.vectors)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < 1 or (most is not None and value > most):
            limit = "" if most is None else f" and <= vectors = {most}"
            raise UserError(f"Score.{name} is {value!r}: expected a whole number >= 1{limit}")
    if len(shape) in (2, 3) and score.vectors != (shape[1] if len(shape) == 3 else 1):
        expected = "[q, d] or [q, 1, d]" if score.vectors == 1 else f"[q, {score.vectors}, d]"
        raise UserError(f"queries {tuple(shape)} with Score.vectors = {score.vectors}: expected {expected}")
    return Score(score.kind, int(score.vectors), int(score.mean_of_best))


def same_score(one: AnyScore, other: Score | Pair) -> bool:
    """Whether both give the same scores; the name of a kind stands for any number of vectors and their maximum."""
    if isinstance(one, Pair) or isinstance(other, Pair):
        if not isinstance(one, Pair) or not isinstance(other, Pair) or one.function != other.function:
            return False
        tree: Any = jax.tree.structure(one.variables)
        if tree != jax.tree.structure(other.variables):
            return False
        leaves = zip(jax.tree.leaves(one.variables), jax.tree.leaves(other.variables), strict=True)
        return all(x is y or np.array_equal(x, y) for x, y in leaves)
    if isinstance(one, str):
        return one == other.kind and other.mean_of_best == 1
    return one == other


def described(score: AnyScore) -> str:
    """A score in the words of an error message."""
    if isinstance(score, str):
        return score
    if isinstance(score, Pair):
        return f"Pair({getattr(score.function, '__name__', type(score.function).__name__)})"
    if score.mean_of_best > 1:
        return f"{score.kind} (mean of the best {score.mean_of_best} of {score.vectors} vectors)"
    return score.kind if score.vectors == 1 else f"{score.kind} (maximum of {score.vectors} vectors)"
