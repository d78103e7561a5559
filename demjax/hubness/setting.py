"""What a correction is fitted on, and the searches that give its statistics."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jax.sharding import Mesh

from demjax import search
from demjax.checks import UserError
from demjax.search.exchange import exchanged
from demjax.search.score import AnyScore, Pair, Score, described
from demjax.search.tiles import Rows


@dataclass(frozen=True)
class Setting:
    """Queries, gallery and bank, and the settings of the searches between them.

    `square`: queries and gallery are one set. `bank_is_gallery`: gallery and bank are one set.
    """

    queries: Rows
    gallery: Rows
    bank: Rows
    score: Score | Pair
    k: int
    alpha: float
    beta: float
    square: bool
    bank_is_gallery: bool
    mesh: Mesh | None
    precision: str
    progress: bool

    @cached_property
    def to_queries(self) -> Score | Pair:
        """The score by which gallery rows search the bank."""
        return exchanged(self.score, self.bank, self.gallery)

    def to_gallery(self, k: int) -> search.Neighbours:
        """The k nearest gallery items of each query."""
        return self._nearest(self.queries, self.gallery, k, self.score, self.square)

    def to_bank(self, k: int) -> search.Neighbours:
        """The k nearest bank queries of each gallery item."""
        if self.precision != "certified" or not isinstance(self.score, Score) or self.score.vectors == 1:
            return self._nearest(self.gallery, self.bank, k, self.to_queries, self.bank_is_gallery)
        if self.score.mean_of_best > 1:
            raise UserError(f"{described(self.score)} with precision='certified': expected precision 'highest'")
        # Only products are proved. Among the k m nearest vectors are those of k queries at least, of each its nearest.
        k, m = min(k, len(self.bank)), self.score.vectors
        near = self._nearest(self.gallery, self.bank.reshape(-1, self.bank.shape[2]), k * m, self.score.kind, False)
        ids, scores = np.asarray(near.ids) // m, np.asarray(near.scores)
        kept = _first_of_each(ids)
        kept &= np.cumsum(kept, axis=1) <= k
        return search.Neighbours(ids[kept].reshape(-1, k), scores[kept].reshape(-1, k))

    def from_bank(self, k: int) -> search.Neighbours:
        """The k nearest gallery items of each bank query."""
        return self._nearest(self.bank, self.gallery, k, self.score, self.bank_is_gallery)

    def _nearest(self, queries: Rows, gallery: Rows, k: int, score: AnyScore, one_set: bool) -> search.Neighbours:
        k = min(k, len(gallery) - one_set)
        return search.nearest(
            queries, gallery, k, score, self.mesh, self.precision, exclude_self=one_set, progress=self.progress
        )

    def gallery_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of the distances of each query to the gallery."""
        return self._moments(self.queries, self.gallery, self.score, self.square)

    def bank_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of the distances of each gallery item to the bank."""
        return self._moments(self.gallery, self.bank, self.to_queries, self.bank_is_gallery)

    def _moments(self, queries: Rows, gallery: Rows, score: AnyScore, one_set: bool) -> tuple[np.ndarray, np.ndarray]:
        mean, std = search.moments(queries, gallery, score, self.mesh, exclude_self=one_set, progress=self.progress)
        return -mean, std

    def bank_log_sum(self) -> np.ndarray:
        """log sum exp(beta s) of each gallery item over the bank."""
        sides = self.gallery, self.bank, self.beta, self.to_queries, self.mesh
        return search.log_sum_exp(*sides, exclude_self=self.bank_is_gallery, progress=self.progress)

    def bank_scores(self, rows: Rows) -> np.ndarray:
        """Every score with the bank, of gallery items or of queries of one vector."""
        return search.all_scores(rows, self.bank, self.to_queries, self.mesh)


def _first_of_each(ids: np.ndarray) -> np.ndarray:
    """True where an id stands in its row [n, k] for the first time."""
    order = np.argsort(ids, axis=1, kind="stable")
    ranked = np.take_along_axis(ids, order, axis=1)
    new = np.ones(ids.shape, bool)
    new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    first = np.empty_like(new)
    np.put_along_axis(first, order, new, axis=1)
    return first
