"""Hubness reduction: fits a correction on a bank of queries by searching, so that the next search is corrected."""

from collections.abc import Callable

import numpy as np
from jax.sharding import Mesh

from demjax.checks import UserError, choose, in_range
from demjax.hubness import distance, similarity
from demjax.hubness.correction import Correction
from demjax.hubness.methods import CORRECTIONS
from demjax.hubness.setting import Rows, Setting
from demjax.hubness.statistics import k_occurrence
from demjax.search import Neighbours, inputs
from demjax.search.score import AnyScore, Pair, Score, checked_score

GATHER_ROWS = 4096


def fit(
    method: str,
    queries: Rows,
    gallery: Rows,
    bank: Rows | None = None,
    *,
    score: AnyScore | None = None,
    k: int | None = None,
    alpha: float = 0.75,
    beta: float = 20.0,
    mesh: Mesh | None = None,
    precision: str = "highest",
    exclude_self: bool = False,
    progress: bool = False,
) -> Correction:
    """Fits a correction; `demjax.search.nearest(..., correction=...)` then searches by corrected scores.

    Args:
      method: a key of `demjax.hubness.CORRECTIONS`; for several vectors per query one of SEVERAL, for a Pair one of
        PAIRS.
      queries: [q, d] or [q, m, d], the queries that will be corrected; of a Pair any rows.
      gallery: [g, d]; of a Pair any rows.
      bank: [r, ...], reference queries of the shape of the queries; None: the queries themselves, which is
        transductive.
      score: of the search, as `nearest` takes it; default the published one (`hubness.CORRECTIONS`).
      k: neighbours that statistics are taken over, all where there are fewer; default as published (10; local
        scaling, NICDM and DisSim-Local 5; NNN 128; QB-Norm 1).
      alpha: weight of NNN.
      beta: inverse temperature of the inverted softmax.
      exclude_self: queries are the gallery, and no row counts itself.
      mesh, progress: as for `nearest`.
      precision: of these neighbours: `certified` where their distances are lost in float32 (tight clusters).
    """
    known = choose("correction", method, CORRECTIONS)
    k = NEIGHBOURS.get(method, 10) if k is None else k
    in_range("k of the correction", k, 1)
    if k != int(k):
        raise UserError(f"k of the correction is {k}: expected a whole number")
    score = known.scores[0] if score is None else score
    _check_score(method, score)
    inputs.check(queries, gallery, score)
    score = checked_score(score, queries)
    if isinstance(score, Score) and score.vectors > 1:
        _check_several(method, queries, exclude_self)
    bank_is_gallery = exclude_self and bank is None
    bank = queries if bank is None else bank
    if len(bank) - bank_is_gallery < 2:
        raise UserError(f"a bank of {len(bank)}: expected at least two reference queries")
    check_bank(bank, queries)
    if isinstance(score, Score) and score.vectors == 1:
        queries, bank = (x.reshape(len(x), x.shape[-1]) for x in (queries, bank))
    sides = queries, gallery, bank, score
    setting = Setting(*sides, int(k), alpha, beta, exclude_self, bank_is_gallery, mesh, precision, progress)
    return FIT[method](setting)._replace(score=score)


def _check_score(method: str, score: AnyScore) -> None:
    """Raises a UserError unless the method is for scores of that kind."""
    if isinstance(score, Pair):
        if method not in PAIRS:
            kinds, pairs = " or ".join(CORRECTIONS[method].scores), " or ".join(PAIRS)
            raise UserError(f"{method} is for {kinds} scores, not for a Pair: expected {pairs}")
        return
    choose("score", score.kind if isinstance(score, Score) else score, dict.fromkeys(CORRECTIONS[method].scores))


def _check_several(method: str, queries: Rows, exclude_self: bool) -> None:
    """Raises a UserError unless the method is for several vectors per query."""
    if method not in SEVERAL:
        expected = f"expected [q, d]; for several: {', '.join(SEVERAL)}"
        raise UserError(f"queries {tuple(queries.shape)}: {method} is for one vector per query, {expected}")
    if exclude_self:
        raise UserError(f"exclude_self with queries {tuple(queries.shape)}: they are no gallery, expected [q, d]")


def check_bank(bank: Rows, queries: Rows) -> None:
    """Raises a UserError unless the bank has finite rows like those of the queries (or a gallery of their width)."""
    if bank.shape[1:] != queries.shape[1:] or bank.dtype != queries.dtype:
        expected = ", ".join(map(str, ("r", *queries.shape[1:])))
        raise UserError(f"bank {bank.dtype} {tuple(bank.shape)}: expected {queries.dtype} [{expected}]")
    inputs.largest("bank", bank)  # refuses what is not finite


def _means(neighbours: Neighbours) -> np.ndarray:
    return np.asarray(neighbours.scores).mean(axis=1)


def _farthest(neighbours: Neighbours) -> np.ndarray:
    """Distances of the k-th neighbours."""
    return -np.asarray(neighbours.scores)[:, -1]


def _dynamic_isf(s: Setting) -> Correction:
    activated = np.asarray(k_occurrence(s.from_bank(s.k).ids, len(s.gallery))) > 0
    top1 = np.asarray(s.to_gallery(1).ids)[:, 0]
    return similarity.dynamic_inverted_softmax(s.bank_log_sum(), s.beta, activated, top1)


def _dsl(s: Setting) -> Correction:
    x = _to_centroid(s.queries, s.gallery, np.asarray(s.to_gallery(s.k).ids))
    return distance.dis_sim_local(x, _to_centroid(s.gallery, s.bank, np.asarray(s.to_bank(s.k).ids)))


def _to_centroid(rows: Rows, others: Rows, ids: np.ndarray) -> np.ndarray:
    """Squared distance [n] of each row to the mean of its neighbours `ids` [n, k] among `others`."""
    out = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), GATHER_ROWS):
        block = slice(start, start + GATHER_ROWS)
        centroid = sum(np.asarray(others[column], np.float64) for column in ids[block].T) / ids.shape[1]
        out[block] = ((np.asarray(rows[block], np.float64) - centroid) ** 2).sum(axis=1)
    return out


# mp_empirical needs scores of queries with queries of the bank, DisSim-Local means of gallery rows and of queries.
SEVERAL = ("csls", "nnn", "isf", "dynamic_isf", "gc", "local_scaling", "nicdm", "mp_gaussian")
PAIRS = ("csls", "nnn", "isf", "dynamic_isf")  # no distances, and no ranks that a score of any size would outweigh
NEIGHBOURS = {"nnn": 128, "dynamic_isf": 1, "local_scaling": 5, "nicdm": 5, "dsl": 5}
FIT: dict[str, Callable[[Setting], Correction]] = {
    "csls": lambda s: similarity.csls(_means(s.to_gallery(s.k)), _means(s.to_bank(s.k))),
    "nnn": lambda s: similarity.nnn(_means(s.to_bank(s.k)), len(s.queries), s.alpha),
    "isf": lambda s: similarity.inverted_softmax(s.bank_log_sum(), len(s.queries), s.beta),
    "dynamic_isf": _dynamic_isf,
    "local_scaling": lambda s: distance.local_scaling(_farthest(s.to_gallery(s.k)), _farthest(s.to_bank(s.k))),
    "nicdm": lambda s: distance.nicdm(-_means(s.to_gallery(s.k)), -_means(s.to_bank(s.k))),
    "mp_gaussian": lambda s: distance.mutual_proximity_gaussian(*s.gallery_moments(), *s.bank_moments()),
    "mp_empirical": lambda s: distance.mutual_proximity_empirical(s.bank_scores(s.queries), s.bank_scores(s.gallery)),
    "gc": lambda s: similarity.globally_corrected(s.bank_scores(s.gallery)),
    "dsl": _dsl,
}
