"""Numbers about all scores of a query, not only the best: what hubness corrections are fitted on."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Shaped

from demjax.checks import UserError, in_range
from demjax.search import inputs, operands, tile_scores
from demjax.search.operands import GalleryTile, QueryTile
from demjax.search.problem import Problem, checked_problem
from demjax.search.row_reductions import row_max, row_sum
from demjax.search.score import AnyScore
from demjax.search.sweep import Kernel, sweep
from demjax.search.tile_scores import Scoring

MOST_SCORES = 5 * 10**8


class Moments(NamedTuple):
    """Number, mean, and sum of squared deviations of the scores of each query [q]."""

    total: jax.Array
    mean: jax.Array
    spread: jax.Array


def add_moments(
    q: QueryTile,
    g: GalleryTile,
    first_row: jax.Array,
    before: Moments | None,
    context: Any,
    *,
    score: Scoring,
    exclude_self: bool,
) -> Moments:
    """One tile, joined with the tiles before it without cancellation (Chan, Golub & LeVeque 1979)."""
    s = tile_scores.scores(q, g, context, score)
    counts = jnp.broadcast_to(g.valid[None], s.shape)
    if exclude_self:
        counts &= jnp.isfinite(operands.hide_excluded(s, q.fields[0], first_row))
    n = row_sum(counts, "int32").astype(jnp.float32)
    mean = row_sum(jnp.where(counts, s, 0)) / jnp.maximum(n, 1)
    spread = row_sum(jnp.where(counts, (s - mean[:, None]) ** 2, 0))
    if before is None:
        return Moments(n, mean, spread)
    total, apart = before.total + n, mean - before.mean
    return Moments(
        total,
        before.mean + apart * (n / jnp.maximum(total, 1)),
        before.spread + spread + apart**2 * (before.total * n / jnp.maximum(total, 1)),
    )


def add_exponentials(
    q: QueryTile,
    g: GalleryTile,
    first_row: jax.Array,
    before: jax.Array | None,
    context: Any,
    *,
    score: Scoring,
    exclude_self: bool,
) -> jax.Array:
    """One tile of a log-sum-exp; the first field of the queries is the factor of the scores."""
    s = jnp.where(g.valid[None], q.fields[0][:, None] * tile_scores.scores(q, g, context, score), -jnp.inf)
    if exclude_self:
        s = operands.hide_excluded(s, q.fields[1], first_row)
    top = row_max(s)
    top = jnp.where(jnp.isfinite(top), top, 0.0)  # a row whose only item is itself
    here = top + jnp.log(row_sum(jnp.exp(s - top[:, None])))
    return here if before is None else jnp.logaddexp(before, here)


def _by(problem: Problem) -> tuple[str, Scoring]:
    return "score", tile_scores.scoring(problem.score)


def _over_gallery(problem: Problem, fields: tuple, step: Kernel) -> list:
    """The summary of each block of queries; every query meets the gallery tiles in order, on any number of devices."""
    cut = problem.tiling(1, by_queries=True)
    sides = (problem.queries, *fields), (problem.gallery,)
    line = problem.progress_line("summing scores")
    return sweep(cut, *sides, tile_scores.recipe(problem, step), problem.context, line)


def moments(
    queries: Shaped[Array | np.ndarray, "q ..."],
    gallery: Shaped[Array | np.ndarray, "g ..."],
    score: AnyScore = "euclidean",
    mesh: Mesh | None = None,
    *,
    exclude_self: bool = False,
    progress: bool = False,
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """Mean and (population) standard deviation of the scores of each query with the whole gallery.

    Of several vectors of a query the one score that `score` makes of them counts.

    Args:
      queries, gallery, score, mesh, exclude_self, progress: as for `nearest`.

    Raises:
      UserError: as `nearest`.
    """
    problem = checked_problem(queries, gallery, score, mesh, progress, exclude_self)
    step = Kernel(add_moments, (_by(problem), ("exclude_self", exclude_self)))
    parts = _over_gallery(problem, () if problem.excluded is None else (problem.excluded,), step)
    host = (np.concatenate([np.asarray(x) for x in part])[: len(queries)] for part in zip(*parts, strict=True))
    total, mean, spread = host
    inputs.check_finite(problem.score, "a gallery row", mean)
    return mean, np.sqrt(spread / total)


def log_sum_exp(
    queries: Shaped[Array | np.ndarray, "q ..."],
    gallery: Shaped[Array | np.ndarray, "g ..."],
    beta: float,
    score: AnyScore = "cosine",
    mesh: Mesh | None = None,
    *,
    exclude_self: bool = False,
    progress: bool = False,
) -> Float[np.ndarray, " q"]:
    """log sum_g exp(beta s(q, g)) of each query: the normaliser of an inverted softmax, finite for any beta.

    Args:
      queries, gallery, score, mesh, exclude_self, progress: as for `nearest`.
      beta: > 0.

    Raises:
      UserError: as `nearest`, or a beta out of range.
    """
    in_range("beta", beta, 0.0, open_low=True)
    factor = np.full(len(queries), beta, np.float32)
    problem = checked_problem(queries, gallery, score, mesh, progress, exclude_self)
    step = Kernel(add_exponentials, (_by(problem), ("exclude_self", exclude_self)))
    parts = _over_gallery(problem, (factor,) if problem.excluded is None else (factor, problem.excluded), step)
    sums = np.concatenate([np.asarray(x) for x in parts])[: len(queries)]
    inputs.check_finite(problem.score, "a gallery row", sums)
    return sums


def write_scores(
    q: QueryTile, g: GalleryTile, first_row: jax.Array, before: jax.Array | None, context: Any, *, score: Scoring
) -> jax.Array:
    """One tile of the whole matrix."""
    s = tile_scores.scores(q, g, context, score)
    return s if before is None else jnp.concatenate([before, s], axis=1)


def all_scores(
    queries: Shaped[Array | np.ndarray, "q ..."],
    gallery: Shaped[Array | np.ndarray, "g ..."],
    score: AnyScore = "euclidean",
    mesh: Mesh | None = None,
) -> Float[np.ndarray, "q g"]:
    """Every score of every query: for galleries of classes, where the whole matrix is wanted and small.

    Args:
      queries, gallery, score, mesh: as for `nearest`.

    Raises:
      UserError: as `nearest`, or more than MOST_SCORES.
    """
    if len(queries) * len(gallery) > MOST_SCORES:
        size = f"{len(queries)} x {len(gallery)}"
        raise UserError(f"{size} scores: expected at most {MOST_SCORES:.0e} in memory; use nearest, ranks or moments")
    problem = checked_problem(queries, gallery, score, mesh, False)
    parts = _over_gallery(problem, (), Kernel(write_scores, (_by(problem),)))
    every = np.concatenate([np.asarray(x) for x in parts])[: len(queries), : len(gallery)]
    inputs.check_finite(problem.score, "a gallery row", every)
    return every
