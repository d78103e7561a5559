"""Numbers about all scores of a query, not only the best: what hubness corrections are fitted on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from demjax.checks import UserError, in_range
from demjax.search import inputs
from demjax.search.operands import Tile, hide_excluded
from demjax.search.problem import Gallery, Problem, Queries, checked_problem
from demjax.search.row_reductions import row_max, row_sum
from demjax.search.score import AnyScore
from demjax.search.sweep import Kernel, on_host, sweep
from demjax.search.tile_scores import Scoring, recipe, scores, scoring

MOST_SCORES = 5 * 10**8


class Moments(NamedTuple):
    """Number, mean, and sum of squared deviations of the scores of each query [q]."""

    total: jax.Array
    mean: jax.Array
    spread: jax.Array


def add_moments(t: Tile, before: Moments | None, *, score: Scoring, exclude_self: bool) -> Moments:
    """One tile, joined with the tiles before it without cancellation (Chan, Golub & LeVeque 1979)."""
    s = scores(t.queries, t.gallery, t.context, score)
    counts = jnp.broadcast_to(t.gallery.valid[None], s.shape)
    if exclude_self:
        counts &= jnp.isfinite(hide_excluded(s, t.queries.fields[-1], t.first_row))
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


def add_exponentials(t: Tile, before: jax.Array | None, *, score: Scoring, exclude_self: bool) -> jax.Array:
    """One tile of a log-sum-exp; the first field of the queries is the factor of the scores."""
    s = t.queries.fields[0][:, None] * scores(t.queries, t.gallery, t.context, score)
    s = jnp.where(t.gallery.valid[None], s, -jnp.inf)
    if exclude_self:
        s = hide_excluded(s, t.queries.fields[-1], t.first_row)
    top = row_max(s)
    top = jnp.where(jnp.isfinite(top), top, 0.0)  # a row whose only item is itself
    here = top + jnp.log(row_sum(jnp.exp(s - top[:, None])))
    return here if before is None else jnp.logaddexp(before, here)


def write_scores(t: Tile, before: jax.Array | None, *, score: Scoring) -> jax.Array:
    """One tile of the whole matrix."""
    s = scores(t.queries, t.gallery, t.context, score)
    return s if before is None else jnp.concatenate([before, s], axis=1)


def _over_gallery(problem: Problem, step: Callable, *fields: np.ndarray, **static: Any) -> Any:
    """What `step` makes of all scores of each query; every query meets the gallery tiles in order, on any devices."""
    cut = problem.tiling(1, by_queries=True)
    kernel = Kernel(step, (("score", scoring(problem.score)), *static.items()))
    sides = (problem.queries, *fields, *problem.excluded), (problem.gallery,)
    line = problem.progress_line("summing scores")
    return on_host(sweep(cut, *sides, recipe(problem, kernel), problem.context, line), cut.queries)


def moments(
    queries: Queries,
    gallery: Gallery,
    score: AnyScore = "euclidean",
    mesh: Mesh | None = None,
    *,
    exclude_self: bool = False,
    progress: bool = False,
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """Mean and (population) standard deviation of the scores of each query with the whole gallery.

    Of several vectors of a query the one score that `score` makes of them counts. Arguments and errors are those of
    `nearest`.
    """
    problem = checked_problem(queries, gallery, score, mesh, progress, exclude_self)
    total, mean, spread = _over_gallery(problem, add_moments, exclude_self=exclude_self)
    inputs.check_finite(problem.score, "a gallery row", mean)
    return mean, np.sqrt(spread / total)


def log_sum_exp(
    queries: Queries,
    gallery: Gallery,
    beta: float,
    score: AnyScore = "cosine",
    mesh: Mesh | None = None,
    *,
    exclude_self: bool = False,
    progress: bool = False,
) -> Float[np.ndarray, " q"]:
    """log sum_g exp(beta s(q, g)) of each query: the normaliser of an inverted softmax, finite for any beta > 0.

    The other arguments and the errors are those of `nearest`.
    """
    in_range("beta", beta, 0.0, open_low=True)
    factor = np.full(len(queries), beta, np.float32)
    problem = checked_problem(queries, gallery, score, mesh, progress, exclude_self)
    sums = _over_gallery(problem, add_exponentials, factor, exclude_self=exclude_self)
    inputs.check_finite(problem.score, "a gallery row", sums)
    return sums


def all_scores(
    queries: Queries, gallery: Gallery, score: AnyScore = "euclidean", mesh: Mesh | None = None
) -> Float[np.ndarray, "q g"]:
    """Every score of every query: for galleries of classes, where the whole matrix is wanted and small.

    Arguments and errors are those of `nearest`; a UserError also for more than MOST_SCORES.
    """
    if len(queries) * len(gallery) > MOST_SCORES:
        size = f"{len(queries)} x {len(gallery)}"
        raise UserError(f"{size} scores: expected at most {MOST_SCORES:.0e} in memory; use nearest, ranks or moments")
    problem = checked_problem(queries, gallery, score, mesh, False)
    every = _over_gallery(problem, write_scores)[:, : len(gallery)]
    inputs.check_finite(problem.score, "a gallery row", every)
    return every
