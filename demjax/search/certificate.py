"""Neighbours proved equal to those of float64 brute force.

1. Every pair gets an upper bound of its score from a low-precision product (`bound.py`).
2. The C pairs of a query with the largest bounds are candidates; their scores are computed in float64.
3. Every other row scores at most the C-th bound. If the k-th candidate scores more, the candidates hold the k
   nearest, in the order of their float64 scores: proved. Otherwise the query is searched again with float32
   bounds and four times the candidates, and if that proves nothing either, its float64 scores with the whole
   gallery are computed.
"""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from demjax.mesh import DATA_AXIS, place, replicate
from demjax.search import bound, float64, inputs
from demjax.search.best import find_best
from demjax.search.problem import Problem
from demjax.search.sweep import Kernel, Recipe, on_host
from demjax.search.tiles import QUERY_ROWS, Rows, Tiling, pad, put

LOW = {"gpu": "float16"}  # eight times more accurate than bfloat16 at the same speed; others have bfloat16 only
RESIDENT_BYTES = 2**30  # of gallery copies on all devices of this process
EXACT_BYTES = 2**27  # of float64 scores with the whole gallery at once
EXACT_ROWS = 16384  # of the gallery in one call


class Certified(NamedTuple):
    """float64 results [q, k] on the host, and how many queries took each way."""

    ids: np.ndarray
    scores: np.ndarray
    ways: dict[str, int]


def certified(problem: Problem, k: int) -> Certified:
    """The k nearest of each query in float64, proved."""
    low = LOW.get(problem.mesh.devices.flat[0].platform, "bfloat16")
    candidates = _candidates(k, problem.gallery.shape[1])
    context = _context(problem)
    ids, scores, proved = _attempt(problem, context, k, candidates, low)
    left = np.flatnonzero(~proved)
    ways = {low: int(proved.sum()), "float32": 0, "float64": 0}
    if len(left):
        ids[left], scores[left], proved = _attempt(problem.subset(left), context, k, 4 * candidates, "float32")
        ways["float32"] = int(proved.sum())
        left = left[~proved]
    if len(left):
        ids[left], scores[left] = _exact(problem.subset(left), k)
        ways["float64"] = len(left)
    return Certified(ids, scores, ways)


def _candidates(k: int, d: int) -> int:
    """Enough to prove all of 5,000 queries among 50,000 rows of normal noise, where proofs are hardest; measured."""
    return k + (max(22, k) if d <= 1024 else max(22, min(4 * k, 40), 3 * k // 2))


def _context(problem: Problem) -> bound.Context:
    """Subtracting means makes norms, and with them the bounds, small. Several vectors must stay comparable."""
    scales = np.ldexp(np.asarray(problem.context.scales), -inputs.LIFT)  # magnitudes near 1: float16 has no more room
    zero = np.zeros(problem.gallery.shape[1], np.float32)
    if problem.vector_score.kind != "euclidean" and problem.vector_score.vectors > 1:
        return bound.Context(scales, zero, zero)
    means = []
    for x, scale in ((problem.queries, scales[0]), (problem.gallery, scales[1])):
        rows = inputs.without_outliers(inputs.sample(x).reshape(-1, len(zero))) * scale
        if problem.vector_score.kind == "cosine":
            norm = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = rows / np.where(norm > 0, norm, 1.0)
        means.append(rows.mean(axis=0).astype(np.float32))
    return bound.Context(scales, means[problem.vector_score.kind == "euclidean"], means[1])


def _attempt(
    problem: Problem, context: bound.Context, k: int, candidates: int, dtype: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids, float64 scores, proved) by bounds in `dtype`."""
    candidates = min(candidates, problem.eligible)
    static = (("kind", problem.vector_score.kind), ("dtype", dtype))
    prepare_queries = Kernel(bound.query_operands, (*static, ("several", problem.vector_score.vectors > 1)))
    cut = problem.tiling(candidates)
    recipe = partial(Recipe, prepare_queries, Kernel(bound.gallery_operands, static))
    rescore = _Rescorer(problem, cut)
    parts = []
    for start, best in zip(cut.q_starts(), find_best(problem, cut, candidates, recipe, context), strict=True):
        block = slice(start, min(start + cut.q_block, cut.queries))
        ids_of_block, bounds = (np.asarray(x)[: block.stop - start] for x in (best.ids, best.scores))
        exact = rescore(block, best.ids)
        proved = np.ones(len(ids_of_block), bool)
        if candidates < problem.eligible:
            worst = np.partition(exact, -k, axis=1)[:, -k]
            proved = _above(problem.queries[block], worst, bounds[:, -1], context, problem.vector_score.kind)
        parts.append((*float64.ordered(exact, ids_of_block, k), proved))
    return on_host(parts, cut.queries)


def _above(queries: Rows, scores: np.ndarray, bounds: np.ndarray, context: bound.Context, kind: str) -> np.ndarray:
    """Whether float64 scores [q] are above bounds [q] of the form S of `bound.py`."""
    several = queries.ndim == 3
    x = np.asarray(queries, np.float64)
    q_scale, g_scale = (float(s) for s in np.asarray(context.scales))
    if kind == "euclidean":
        offset = 0.0 if several else ((x * q_scale - np.asarray(context.q_centre)) ** 2).sum(axis=-1) / 2
        value = offset - (scores * q_scale) ** 2 / 2
    else:
        if kind == "cosine":
            norm = np.linalg.norm(x, axis=-1, keepdims=True)
            x = x / np.where(norm > 0, norm, 1.0)
        scale, both = (q_scale, q_scale * g_scale) if kind == "dot" else (1.0, 1.0)
        offset = 0.0 if several else (x * scale) @ np.asarray(context.g_centre, np.float64)
        value = scores * both - offset
    rounding = x.shape[-1] * 2.0**-48 * (np.abs(value) + np.abs(offset) + 2.0**-90)
    return value > bounds.astype(np.float64) + rounding


class _Rescorer:
    """float64 scores of the candidates of one block of queries after another."""

    def __init__(self, problem: Problem, cut: Tiling):
        self._problem, self._cut = problem, cut
        self._resident = None
        if problem.gallery.size * 4 * cut.mesh.size <= RESIDENT_BYTES:
            self._resident = replicate(np.asarray(problem.gallery), cut.mesh)

    def __call__(self, block: slice, ids: jax.Array) -> np.ndarray:
        """Scores [q, c] of the queries of `block` with their candidates `ids`; the rows after them are padding."""
        problem, cut = self._problem, self._cut
        queries = pad(put(problem.queries, block.start, cut.q_block, cut.mesh, cut.q_spec), cut.q_block)
        queries = queries.reshape(cut.q_block, -1, queries.shape[-1])
        n, kind = block.stop - block.start, problem.vector_score.kind
        if self._resident is not None:
            return float64.enabled(float64.of_candidates, queries, self._resident, ids, kind=kind)[:n]
        out = []
        for column in np.asarray(ids).T:
            rows = place(np.asarray(problem.gallery[column]), NamedSharding(cut.mesh, cut.q_spec))
            out.append(float64.enabled(float64.pairs, queries, rows, kind=kind)[:n])
        return np.stack(out, axis=1)


def _exact(problem: Problem, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids, scores) by the float64 scores of every pair."""
    rows, devices = len(problem.gallery), problem.mesh.size
    block = min(EXACT_ROWS, -(-rows // devices)) * devices
    queries_at_once = max(1, min(QUERY_ROWS, EXACT_BYTES // (8 * rows)))
    everyone, parts = np.arange(rows, dtype=np.int32), []
    for start in range(0, len(problem.queries), queries_at_once):
        q = put(problem.queries, start, queries_at_once, problem.mesh, PartitionSpec())
        q = q.reshape(len(q), -1, q.shape[-1])
        tiles = (put(problem.gallery, g, block, problem.mesh, PartitionSpec(DATA_AXIS)) for g in range(0, rows, block))
        scored = [float64.enabled(float64.of_all, q, x, kind=problem.vector_score.kind) for x in tiles]
        every = np.concatenate(scored, axis=1)[:, :rows]
        for excluded in problem.excluded:
            every[np.arange(len(every)), excluded[start : start + queries_at_once]] = -np.inf
        parts.append(float64.ordered(every, np.broadcast_to(everyone, every.shape), k))
    return on_host(parts, len(problem.queries))
