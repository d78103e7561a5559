"""Checks of what a search is called with, and one reading of both sides before the work begins."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from demjax.checks import UserError, choose
from demjax.search.score import SCORES, Pair, Score, described
from demjax.search.tiles import Rows

SURVEY_ROWS = 8192
SAMPLE_ROWS = 512
MIDDLE_ROWS = 128  # a median of more takes as long as a small search
LIFT = 20
FAR = 16.0  # times the usual distance from the middle: such a row is no part of a centre


class Frame(NamedTuple):
    """What is taken out of both sides before products are formed; it cancels in every comparison.

    Attributes:
      scales: [2], powers of two that bring the largest magnitudes of queries and gallery near 2^LIFT: squares do not
        overflow, and do not vanish in rows that are up to 1e24 times smaller. Equal for distances.
      centre: [d] on a coarse grid, in scaled units. A common offset cancels in a distance but not in the
        rounding of a float32 product. The grid (a sixteenth of the spread) keeps whole numbers exact, and
        with them ties. Rows far from all others have no part in it.
    """

    scales: Rows
    centre: Rows


def check(queries: Any, gallery: Any, score: Any) -> None:
    """Raises a UserError for what types and shapes alone show, before anything is read."""
    pair = isinstance(score, Pair)
    if not pair:
        choose("score", score.kind if isinstance(score, Score) else score, SCORES)
    for name, x in (("queries", queries), ("gallery", gallery)):
        if not isinstance(x, np.ndarray | jax.Array):
            raise UserError(f"{name} are a {type(x).__name__}: expected a float32 array of NumPy or JAX")
        if not pair and x.dtype != np.float32:
            raise UserError(f"{name} are {x.dtype}: expected float32; convert with x.astype('float32')")
    shapes = f"queries {tuple(queries.shape)} and gallery {tuple(gallery.shape)}"
    if pair and 0 in (queries.ndim, gallery.ndim):
        raise UserError(f"{shapes}: expected arrays with one row per query and per gallery row")
    if not pair and (queries.ndim not in (2, 3) or gallery.ndim != 2 or queries.shape[-1] != gallery.shape[1]):
        raise UserError(f"{shapes}: expected [q, d] or [q, m, d] and [g, d] with one width d")
    if 0 in queries.shape or 0 in gallery.shape:
        raise UserError(f"{shapes}: expected at least one query, one gallery row and one column")


def check_positives(positives: np.ndarray, queries: int, gallery: int) -> None:
    """Raises a UserError unless every query has positives, each a gallery row and named once; -1 fills up."""
    if positives.ndim != 2 or positives.shape[0] != queries or not np.issubdtype(positives.dtype, np.integer):
        raise UserError(
            f"positives {positives.dtype} {positives.shape}: expected integers [{queries}, c], -1 where fewer"
        )
    outside = (positives < -1) | (positives >= gallery)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise UserError(
            f"positives row {row} names gallery row {positives[row, column]}: expected 0 to {gallery - 1}, or -1"
        )
    ranked = np.sort(positives, axis=1)
    wrong = (ranked[:, -1:] < 0).any(axis=1) | ((ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] >= 0)).any(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(f"positives row {row} is {positives[row].tolist()}: expected at least one id, each once")


def check_k(k: Any, gallery: int, exclude_self: bool = False) -> None:
    """Raises a UserError unless k is a whole number from 1 to the gallery rows a query can have for neighbours."""
    most = gallery - exclude_self
    whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
    if not whole or not 1 <= k <= most:
        beside = " beside the query itself" if exclude_self else ""
        raise UserError(f"k = {k!r} of {most} gallery rows{beside}: expected a whole number, 1 <= k <= {most}")


def largest(name: str, x: Rows) -> float:
    """The largest magnitude in x.

    Raises:
      UserError: NaN or infinity, with the number of the first such row.
    """
    peak = 0.0
    for start in range(0, x.shape[0], SURVEY_ROWS):
        part = x[start : start + SURVEY_ROWS]
        if not jnp.issubdtype(part.dtype, jnp.floating):
            break  # whole numbers are finite
        here = _numpy_largest(part) if isinstance(part, np.ndarray) else float(_jax_largest(part))
        if not math.isfinite(here):
            part = np.asarray(part)
            row = int(np.argmin(np.isfinite(part).reshape(len(part), -1).all(axis=1)))
            bad = part[row][~np.isfinite(part[row])][0]
            raise UserError(f"{name} row {start + row} holds {bad}: expected finite numbers; mend or drop that row")
        peak = max(peak, here)
    return peak


def check_finite(score: Score | Pair, what: str, values: Rows) -> None:
    """Raises a UserError where the function of a Pair gave NaN or infinity; products are finite."""
    if not isinstance(score, Pair):
        return
    wrong = ~np.isfinite(np.asarray(values)).reshape(len(values), -1).all(axis=1)
    if wrong.any():
        raise UserError(
            f"{described(score)}: the score of query {int(np.argmax(wrong))} with {what} is NaN or infinite: expected "
            "finite numbers for every query and gallery row"
        )


def _numpy_largest(part: np.ndarray) -> float:
    return float(max(part.max(), -part.min()))  # NaN comes out of both; no copy is made


@jax.jit
def _jax_largest(part: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(part))  # propagates NaN


def _scale(peak: float) -> float:
    """A power of two: peak * scale is near 2^LIFT, or 0."""
    if peak == 0:
        return 1.0
    return 2.0 ** min(LIFT - max(math.frexp(peak)[1], -125), 126)  # beyond that the scale would leave float32


def shared_frame(queries: Rows, gallery: Rows, kind: str) -> Frame:
    """Reads both sides once: checks that they are finite, and finds scales and centre."""
    q_scale, g_scale = _scale(largest("queries", queries)), _scale(largest("gallery", gallery))
    if kind == "cosine":
        q_scale = g_scale = 1.0  # cosines do not depend on the lengths of rows
    if kind == "euclidean":
        q_scale = g_scale = min(q_scale, g_scale)
    centre = np.zeros(gallery.shape[1], np.float32)
    if kind == "euclidean":
        centre = _centre(without_outliers(sample(gallery)) * g_scale)
    return Frame(np.array([q_scale, g_scale], np.float32), centre)


def sample(x: Rows) -> np.ndarray:
    """Evenly spaced rows, in float64."""
    stride = max(1, math.ceil(x.shape[0] / SAMPLE_ROWS))
    return np.asarray(x[::stride]).astype(np.float64)


def without_outliers(rows: np.ndarray) -> np.ndarray:
    """Without the rows that are far from all others: one of them would move a mean away from everything."""
    middle = np.median(rows[:: max(1, len(rows) // MIDDLE_ROWS)], axis=0)
    away = np.sqrt(np.mean((rows - middle) ** 2, axis=1))
    return rows[away <= FAR * np.median(away)]


def _centre(rows: np.ndarray) -> np.ndarray:
    """The mean of the rows, rounded to a sixteenth of their spread."""
    mean = rows.mean(axis=0)
    spread = math.sqrt(np.mean((rows - mean) ** 2))
    if spread == 0:
        return rows[0].astype(np.float32)
    grid = 2.0 ** (math.floor(math.log2(spread)) - 4)
    return (np.round(mean / grid) * grid).astype(np.float32)
