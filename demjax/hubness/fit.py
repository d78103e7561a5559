"""Hubness reduction: fits a correction on a bank of queries by searching, so that the next search is corrected.

The bank decides what a result may be called. Seen training images (or held-out validation images) as the bank:
inductive, allowed everywhere. The test queries themselves: transductive, a row of its own, and labelled.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from demjax import search
from demjax.checks import UserError, choose, in_range
from demjax.hubness import distance, similarity
from demjax.hubness.correction import Correction
from demjax.hubness.methods import CORRECTIONS
from demjax.hubness.statistics import k_occurrence
from demjax.search import inputs

Rows = np.ndarray | jax.Array
GATHER_ROWS = 4096


class Setting(NamedTuple):
    """What a correction is fitted on.

    `square`: queries and gallery are one set. `own_bank`: gallery and bank are one set.
    """

    queries: Rows
    gallery: Rows
    bank: Rows
    score: str
    k: int
    alpha: float
    beta: float
    square: bool
    own_bank: bool
    mesh: Mesh | None
    precision: str
    progress: bool

    def to_gallery(self, k: int) -> search.Neighbours:
        """The k nearest gallery items of each query."""
        return self._nearest(self.queries, self.gallery, k, self.square)

    def to_bank(self, k: int) -> search.Neighbours:
        """The k nearest bank queries of each gallery item; of several vectors of one query the nearest counts."""
        if self.bank.ndim == 2:
            return self._nearest(self.gallery, self.bank, k, self.own_bank)
        k, several = min(k, len(self.bank)), self.bank.shape[1]
        # Among the k m nearest vectors are those of k queries at least, and of each its nearest.
        found = self._nearest(self.gallery, self.bank.reshape(-1, self.bank.shape[2]), k * several, False)
        ids, scores = np.asarray(found.ids) // several, np.asarray(found.scores)
        kept = _first_of_each(ids)
        kept &= np.cumsum(kept, axis=1) <= k
        return search.Neighbours(ids[kept].reshape(-1, k), scores[kept].reshape(-1, k))

    def from_bank(self, k: int) -> search.Neighbours:
        """The k nearest gallery items of each bank query."""
        return self._nearest(self.bank, self.gallery, k, self.own_bank)

    def _nearest(self, queries: Rows, gallery: Rows, k: int, one_set: bool) -> search.Neighbours:
        k = min(k, len(gallery) - one_set)
        return search.nearest(
            queries, gallery, k, self.score, self.mesh, self.precision, exclude_self=one_set, progress=self.progress
        )

    def gallery_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of the distances of each query to the gallery."""
        return self._moments(self.queries, self.gallery, self.square)

    def bank_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of the distances of each gallery item to the bank."""
        return self._moments(self.gallery, self.bank, self.own_bank)

    def _moments(self, queries: Rows, gallery: Rows, one_set: bool) -> tuple[np.ndarray, np.ndarray]:
        mean, std = search.moments(
            queries, gallery, self.score, self.mesh, exclude_self=one_set, progress=self.progress
        )
        return -mean, std

    def scores(self, queries: Rows) -> np.ndarray:
        """Every score with the bank."""
        return search.all_scores(queries, self.bank, self.score, self.mesh)


def fit(
    method: str,
    queries: Rows,
    gallery: Rows,
    bank: Rows | None = None,
    *,
    score: str | None = None,
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
      method: a key of `demjax.hubness.CORRECTIONS`; the search must use that correction's score.
      queries: [q, d], the queries that will be corrected; or [q, m, d], the nearest of m vectors counts (SEVERAL).
      gallery: [g, d].
      bank: [r, d] or [r, m, d], reference queries; None: the queries themselves, which is transductive.
      score: of the search; default the published one (`hubness.CORRECTIONS`).
      k: neighbours that statistics are taken over, all where there are fewer; default as published (10; local
        scaling, NICDM and DisSim-Local 5; NNN 128; QB-Norm 1).
      alpha: weight of NNN.
      beta: inverse temperature of the inverted softmax.
      exclude_self: queries are the gallery, and no row counts itself.
      mesh, progress: as for `nearest`.
      precision: of these neighbours: `certified` where their distances are lost in float32 (tight clusters).

    Raises:
      UserError: an unknown method, numbers out of range, or sides that do not fit.
    """
    known = choose("correction", method, CORRECTIONS)
    k = NEIGHBOURS.get(method, 10) if k is None else k
    in_range("k of the correction", k, 1)
    if k != int(k):
        raise UserError(f"k of the correction is {k}: expected a whole number")
    score = choose("score", known.scores[0] if score is None else score, {s: s for s in known.scores})
    inputs.check(queries, gallery, score)
    if queries.ndim != 2 and method not in SEVERAL:
        raise UserError(
            f"queries {tuple(queries.shape)}: {method} is for one vector per query, expected [q, d]; for several: "
            f"{', '.join(SEVERAL)}"
        )
    if queries.ndim != 2 and exclude_self:
        raise UserError(f"exclude_self with queries {tuple(queries.shape)}: they are no gallery, expected [q, d]")
    own_bank = exclude_self and bank is None
    bank = queries if bank is None else bank
    if len(bank) - own_bank < 2:
        raise UserError(f"a bank of {len(bank)}: expected at least two reference queries")
    check_bank(bank, gallery, queries.shape[1:-1])
    sides = queries, gallery, bank, score
    return FIT[method](Setting(*sides, int(k), alpha, beta, exclude_self, own_bank, mesh, precision, progress))


def check_bank(bank: Rows, gallery: Rows, vectors: tuple[int, ...] = ()) -> None:
    """Raises a UserError unless the bank has finite float32 rows of the gallery's width, of (m,) vectors or one."""
    if bank.shape[1:] != (*vectors, gallery.shape[-1]) or bank.dtype != np.float32:
        expected = ", ".join(map(str, ("r", *vectors, gallery.shape[-1])))
        raise UserError(f"bank {bank.dtype} {tuple(bank.shape)}: expected float32 [{expected}]")
    inputs.largest("bank", bank)  # refuses what is not finite


def _first_of_each(ids: np.ndarray) -> np.ndarray:
    """True where an id stands in its row [n, k] for the first time."""
    order = np.argsort(ids, axis=1, kind="stable")
    ranked = np.take_along_axis(ids, order, axis=1)
    new = np.ones(ids.shape, bool)
    new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    first = np.empty_like(new)
    np.put_along_axis(first, order, new, axis=1)
    return first


def _means(found: search.Neighbours) -> np.ndarray:
    return np.asarray(found.scores).mean(axis=1)


def _csls(s: Setting) -> Correction:
    return similarity.csls(_means(s.to_gallery(s.k)), _means(s.to_bank(s.k)), s.score)


def _nnn(s: Setting) -> Correction:
    return similarity.nnn(_means(s.to_bank(s.k)), len(s.queries), s.alpha, s.score)


def _log_sum(s: Setting) -> np.ndarray:
    return search.log_sum_exp(s.gallery, s.bank, s.beta, s.score, s.mesh, exclude_self=s.own_bank, progress=s.progress)


def _isf(s: Setting) -> Correction:
    return similarity.inverted_softmax(_log_sum(s), len(s.queries), s.beta)


def _dynamic_isf(s: Setting) -> Correction:
    activated = np.asarray(k_occurrence(s.from_bank(s.k).ids, len(s.gallery))) > 0
    return similarity.dynamic_inverted_softmax(_log_sum(s), s.beta, activated, np.asarray(s.to_gallery(1).ids)[:, 0])


def _local_scaling(s: Setting) -> Correction:
    return distance.local_scaling(*(-np.asarray(f(s.k).scores)[:, -1] for f in (s.to_gallery, s.to_bank)))


def _nicdm(s: Setting) -> Correction:
    return distance.nicdm(*(-_means(f(s.k)) for f in (s.to_gallery, s.to_bank)))


def _mp_gaussian(s: Setting) -> Correction:
    return distance.mutual_proximity_gaussian(*s.gallery_moments(), *s.bank_moments())


def _mp_empirical(s: Setting) -> Correction:
    return distance.mutual_proximity_empirical(s.scores(s.queries), s.scores(s.gallery))


def _gc(s: Setting) -> Correction:
    return similarity.globally_corrected(s.scores(s.gallery))


def _dsl(s: Setting) -> Correction:
    x = _to_centroid(s.queries, s.gallery, np.asarray(s.to_gallery(s.k).ids))
    return distance.dis_sim_local(x, _to_centroid(s.gallery, s.bank, np.asarray(s.to_bank(s.k).ids)))


def _to_centroid(rows: Rows, others: Rows, ids: np.ndarray) -> np.ndarray:
    """Squared distance [n] of each row to the mean of its neighbours `ids` [n, k] among `others`."""
    out = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), GATHER_ROWS):
        some = slice(start, start + GATHER_ROWS)
        centroid = sum(np.asarray(others[column], np.float64) for column in ids[some].T) / ids.shape[1]
        out[some] = ((np.asarray(rows[some], np.float64) - centroid) ** 2).sum(axis=1)
    return out


SEVERAL = ("csls", "nnn", "local_scaling", "nicdm")  # need nothing but nearest neighbours
NEIGHBOURS = {"nnn": 128, "dynamic_isf": 1, "local_scaling": 5, "nicdm": 5, "dsl": 5}
FIT: dict[str, Callable[[Setting], Correction]] = {
    "csls": _csls,
    "nnn": _nnn,
    "isf": _isf,
    "dynamic_isf": _dynamic_isf,
    "local_scaling": _local_scaling,
    "nicdm": _nicdm,
    "mp_gaussian": _mp_gaussian,
    "mp_empirical": _mp_empirical,
    "gc": _gc,
    "dsl": _dsl,
}
