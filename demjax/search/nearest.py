"""Exact nearest neighbours: every query meets every gallery row, in tiles, on all devices."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from demjax.checks import UserError, choose
from demjax.search import inputs, tile_scores
from demjax.search.best import find_best
from demjax.search.certificate import certified
from demjax.search.problem import Gallery, Problem, Queries, checked_problem
from demjax.search.score import AnyScore, Pair, Score, described, same_score

PRECISIONS = {
    "highest": "float32 products at the highest precision of the device",
    "certified": "equal to float64 brute force, proved query by query",
}


class Neighbours(NamedTuple):
    """For each query the k nearest gallery rows, nearest first, and their scores (greater is nearer)."""

    ids: Int[Array | np.ndarray, "q k"]
    scores: Float[Array | np.ndarray, "q k"]


def nearest(
    queries: Queries,
    gallery: Gallery,
    k: int = 1,
    score: AnyScore = "euclidean",
    mesh: Mesh | None = None,
    precision: str = "highest",
    *,
    exclude_self: bool = False,
    correction: tuple[Callable, tuple, tuple, AnyScore] | None = None,
    progress: bool = False,
) -> Neighbours:
    """The k gallery rows nearest to each query, exactly; equal scores in the order of their ids.

    Never more than a tile of scores is in memory. The same ids come out on any number of devices.

    Args:
      queries: float32 [q, d], or [q, m, d] for m vectors per query. A NumPy memory map (`demjax.data.open_npy`) is
        read block by block and may be larger than memory; so may the gallery. For a Pair: any array [q, ...].
      gallery: float32 [g, d]; for a Pair any array [g, ...].
      score: `euclidean` (minus the distance), `cosine` (in [-1, 1]; 0 with a zero vector) or `dot`: of several
        vectors of a query the greatest score. A `Score` says how many vectors a query has and whether the mean of
        several of their scores counts. A `Pair` computes scores by a function.
      mesh: devices to share the work (`demjax.mesh.data_mesh()`: all of them); default one device.
      precision: `highest`: float32 products. Neighbours whose scores differ by less than float32 rounding may
        change places; for distances that is the rounding of |q - c|^2, c the middle of the gallery: tight clusters
        far apart need `certified`. `certified`: low-precision candidates, a proof that nothing else can belong to
        the result, and float64 scores for the candidates; where the proof fails, float64 for the whole gallery.
        The result equals float64 brute force on the same numbers (magnitudes below 1e-38 count as 0). Neither a Pair
        nor a mean of several vector scores is proved.
      exclude_self: queries are the gallery: no row is its own neighbour.
      correction: (function, query fields, gallery fields, score) as made by `demjax.hubness` or `hubness.fit` for
        these queries, this gallery and this score: the search is then by corrected scores. Only with `highest`.
      progress: shows a line with the time left.

    Returns:
      Neighbours: float32 scores; NumPy arrays if both sides are NumPy arrays, else JAX arrays.

    Raises:
      UserError: shapes, dtypes or k that do not fit, an empty side, NaN or infinity (with its row), unknown names;
        `certified` with a correction or a score that cannot be proved.
    """
    choose("precision", precision, PRECISIONS)
    problem = checked_problem(queries, gallery, score, mesh, progress, exclude_self, k)
    k = int(k)
    if correction:
        _check_correction(correction, problem, precision)
    if precision == "certified":
        _check_provable(problem)
        ids, scores, _ = certified(problem, k)
        blocks = [ids], [scores.astype(np.float32)]
    else:
        blocks = _highest(problem, k, correction)
    xp: Any = np if isinstance(queries, np.ndarray) and isinstance(gallery, np.ndarray) else jnp
    result = Neighbours(*(xp.concatenate([xp.asarray(x) for x in part])[: len(queries)] for part in blocks))
    inputs.check_finite(problem.score, "one of its neighbours", result.scores)
    return result


def _check_provable(problem: Problem) -> None:
    if isinstance(problem.score, Pair) or problem.score.mean_of_best > 1:
        raise UserError(
            f"{described(problem.score)} with precision='certified': expected 'highest'; only the greatest of the "
            "vector scores of a query is proved"
        )


def _check_correction(correction: tuple[Callable, tuple, tuple, AnyScore], problem: Problem, precision: str) -> None:
    _, q_fields, g_fields, score = correction
    if precision != "highest":
        raise UserError(
            f"a correction with precision={precision!r}: expected 'highest'; corrected scores are not proved"
        )
    if not same_score(score, problem.score):
        raise UserError(
            f"the correction is for {described(score)} scores, the search is by {described(problem.score)}: expected "
            "one score"
        )
    for what, fields, rows in (("queries", q_fields, problem.queries), ("gallery rows", g_fields, problem.gallery)):
        for field in fields:
            if len(field) != len(rows):
                raise UserError(f"the correction was fitted for {len(field)} {what}, the search has {len(rows)}")


def _highest(problem: Problem, k: int, correction: tuple[Callable, tuple, tuple, AnyScore] | None) -> tuple[list, list]:
    """(ids, scores) of each block of queries."""
    apply, q_fields, g_fields, _ = correction or (None, (), (), "")
    recipe = partial(tile_scores.recipe, problem)
    best = find_best(problem, problem.tiling(k), k, recipe, problem.context, apply, q_fields, g_fields)
    ids, scores = [b.ids for b in best], [b.scores for b in best]
    if apply is None and isinstance(problem.score, Score):
        scales = jnp.asarray(problem.context.scales)[None]
        scores = [tile_scores.to_scores(b.scores, b.square, scales, problem.score) for b in best]
    return ids, scores
