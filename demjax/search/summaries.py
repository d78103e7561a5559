"""Numbers about all scores of a query, not only the best: what hubness corrections are fitted on."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from demjax.checks import UserError, in_range
from demjax.search import operands
from demjax.search.problem import Problem, checked_problem
from demjax.search.row_reductions import row_max, row_sum
from demjax.search.sweep import Kernel, sweep

MOST_SCORES = 5 * 10**8


class Moments(NamedTuple):
    """Number, mean, and sum of squared deviations of the scores of each query [q]."""

    total: jax.Array
    mean: jax.Array
    spread: jax.Array


def _natural(q: operands.QueryTile, g: operands.GalleryTile, score: str) -> jax.Array:
    return operands.to_scores(operands.product(q.operands, g.operands, 1), q.square, q.scales, score, False)


def add_moments(
    q: operands.QueryTile,
    g: operands.GalleryTile,
    first_row: jax.Array,
    before: Moments | None,
    *,
    score: str,
    exclude_self: bool,
) -> Moments:
    """One tile: its own moments, joined with those before it (Chan, Golub & LeVeque 1979), free of cancellation."""
    s = _natural(q, g, score)
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
    q: operands.QueryTile,
    g: operands.GalleryTile,
    first_row: jax.Array,
    before: jax.Array | None,
    *,
    score: str,
    exclude_self: bool,
) -> jax.Array:
    """One tile of a log-sum-exp; the first field of the queries is the factor of the scores."""
    s = jnp.where(g.valid[None], q.fields[0][:, None] * _natural(q, g, score), -jnp.inf)
    if exclude_self:
        s = operands.hide_excluded(s, q.fields[1], first_row)
    top = row_max(s)
    top = jnp.where(jnp.isfinite(top), top, 0.0)  # a row whose only item is itself
    here = top + jnp.log(row_sum(jnp.exp(s - top[:, None])))
    return here if before is None else jnp.logaddexp(before, here)


def _over_gallery(problem: Problem, fields: tuple, step: Kernel) -> list:
    """The summary of each block of queries; every query meets the gallery tiles in order, on any number of devices."""
    cut = problem.tiling(1, by_queries=True)
    sides = (problem.queries, *fields), (problem.gallery,)
    return sweep(cut, *sides, operands.recipe(problem, step), problem.frame, problem.progress_line("summing scores"))


def moments(
    queries: Float[Array | np.ndarray, "q d"],
    gallery: Float[Array | np.ndarray, "g d"],
    score: str = "euclidean",
    mesh: Mesh | None = None,
    *,
    exclude_self: bool = False,
    progress: bool = False,
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """Mean and (population) standard deviation of the scores of each query with the whole gallery.

    Args:
      queries, gallery, score, mesh, exclude_self, progress: as for `nearest`.

    Raises:
      UserError: as `nearest`.
    """
    problem = checked_problem(queries, gallery, score, mesh, progress, exclude_self, vectors=False)
    step = Kernel(add_moments, (("score", score), ("exclude_self", exclude_self)))
    parts = _over_gallery(problem, () if problem.excluded is None else (problem.excluded,), step)
    host = (np.concatenate([np.asarray(x) for x in part])[: len(queries)] for part in zip(*parts, strict=True))
    total, mean, spread = host
    return mean, np.sqrt(spread / total)


def log_sum_exp(
    queries: Float[Array | np.ndarray, "q d"],
    gallery: Float[Array | np.ndarray, "g d"],
    beta: float,
    score: str = "cosine",
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
    problem = checked_problem(queries, gallery, score, mesh, progress, exclude_self, vectors=False)
    step = Kernel(add_exponentials, (("score", score), ("exclude_self", exclude_self)))
    parts = _over_gallery(problem, (factor,) if problem.excluded is None else (factor, problem.excluded), step)
    return np.concatenate([np.asarray(x) for x in parts])[: len(queries)]


def write_scores(
    q: operands.QueryTile, g: operands.GalleryTile, first_row: jax.Array, before: jax.Array | None, *, score: str
) -> jax.Array:
    """One tile of the whole matrix."""
    s = _natural(q, g, score)
    return s if before is None else jnp.concatenate([before, s], axis=1)


def all_scores(
    queries: Float[Array | np.ndarray, "q d"],
    gallery: Float[Array | np.ndarray, "g d"],
    score: str = "euclidean",
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
    parts = _over_gallery(
        checked_problem(queries, gallery, score, mesh, False, vectors=False),
        (),
        Kernel(write_scores, (("score", score),)),
    )
    return np.concatenate([np.asarray(x) for x in parts])[: len(queries), : len(gallery)]
