"""Corrections of cosine similarities, fitted on a bank of queries."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from demjax.checks import UserError, in_range
from demjax.hubness.correction import Correction, PerItem, PerQuery, Tile, constant, rows


def csls(query_mean: PerQuery, gallery_mean: PerItem, score: str = "cosine") -> Correction:
    """Cross-domain similarity local scaling, 2 s - r_T(x) - r_S(y); range -4 to 4.

    r_T(x): mean cosine of query x to its k nearest items; r_S(y): mean cosine of item y to its k nearest of the bank
    (k = 10). The ranking is that of s - r_S(y) / 2. UserError unless all are finite. Of inner products with `score`
    "dot": not in the paper, but the same formula.

    Reference: Lample, Conneau, Ranzato, Denoyer & Jégou 2018; `facebookresearch/MUSE`, where the bank is the test
    vocabulary: transductive.
    """
    return Correction(_csls, (rows("query_mean", query_mean),), (rows("gallery_mean", gallery_mean),), score)


def _csls(scores: Tile, query: tuple, gallery: tuple) -> Tile:
    (r_t,), (r_s,) = query, gallery
    return 2 * scores - r_t[:, None] - r_s[None, :]


def nnn(gallery_mean: PerItem, n_queries: int, alpha: int | float = 0.75, score: str = "cosine") -> Correction:
    """Nearest neighbour normalisation, s - alpha r(y), r(y) the mean of the k largest cosines of item y to the bank.

    k = 128 and alpha = 0.75 are its authors' recommendation; tune both on validation classes. UserError unless
    alpha >= 0 and all are finite.

    Reference: Chowdhury et al. 2024; `multimodal-interpretability/nnn`.
    """
    in_range("alpha", alpha, 0)
    return Correction(_nnn, (constant(alpha, n_queries),), (rows("gallery_mean", gallery_mean),), score)


def _nnn(scores: Tile, query: tuple, gallery: tuple) -> Tile:
    (alpha,), (r,) = query, gallery
    return scores - alpha[:, None] * r[None, :]


def inverted_softmax(gallery_lse: PerItem, n_queries: int, beta: int | float) -> Correction:
    """Inverted softmax in logs, beta s - gallery_lse(y), gallery_lse(y) = logsumexp over the bank of beta s_by.

    The published value is its exp: the same ranking, but it underflows at large beta. `gallery_lse` must be of the
    same beta. UserError unless beta > 0 and all are finite.

    Reference: Smith, Turban, Hamblin & Hammerla 2017.
    """
    in_range("beta", beta, 0, open_low=True)
    return Correction(_inverted_softmax, (constant(beta, n_queries),), (rows("gallery_lse", gallery_lse),), "cosine")


def _inverted_softmax(scores: Tile, query: tuple, gallery: tuple) -> Tile:
    (beta,), (lse,) = query, gallery
    return beta[:, None] * scores - lse[None, :]


def dynamic_inverted_softmax(
    gallery_lse: PerItem,
    beta: int | float,
    activated: Bool[Array | np.ndarray, " g"],
    query_top1: Integer[Array | np.ndarray, " q"],
) -> Correction:
    """QB-Norm: the log inverted softmax for queries whose nearest item, uncorrected, is activated; the rest stay raw.

    Rows on two scales: right for the ranking within a query; not for thresholds, means over queries or item -> query.

    Args:
      gallery_lse, beta: as of `inverted_softmax`. The authors take beta = 20 for most models.
      activated: items among the k nearest (k = 1) of at least one query of the bank.
      query_top1: id of the item nearest to each query, uncorrected.

    Raises:
      UserError: as `inverted_softmax`; also unless `activated` has one entry per item and the ids are items.

    Reference: Bogolin, Croitoru, Jin, Liu & Albanie 2022; `ioanacroi/qb-norm`.
    """
    in_range("beta", beta, 0, open_low=True)
    lse, active, top1 = rows("gallery_lse", gallery_lse), np.asarray(activated), np.asarray(query_top1)
    if active.shape != lse.shape or active.dtype != bool:
        raise UserError(f"activated is {active.dtype}{list(active.shape)}: expected bool[{len(lse)}], one per item")
    if top1.ndim != 1 or top1.size == 0 or top1.min() < 0 or top1.max() >= len(lse):
        raise UserError(f"query_top1 has shape {top1.shape}: expected one id of 0 to {len(lse) - 1} per query")
    return Correction(_dynamic_inverted_softmax, (constant(beta, len(top1)), active[top1]), (lse,), "cosine")


def _dynamic_inverted_softmax(scores: Tile, query: tuple, gallery: tuple) -> Tile:
    (beta, active), (lse,) = query, gallery
    return jnp.where(active[:, None], beta[:, None] * scores - lse[None, :], scores)


def globally_corrected(gallery_bank: Float[Array | np.ndarray, "g r"]) -> Correction:
    """Global correction, s - (number of bank queries with s_by > s_xy): rank of x for item y, then cosine; -r - 1 to 1.

    float32 carries the cosine only to the spacing at the rank: 6e-5 at rank 1000, 0.004 at 60,000. As the cosine
    ranges over 2, it may outweigh one rank.

    `gallery_bank`: cosines of each item to the r queries of the bank, in any order. UserError unless all are finite.

    Reference: Dinu, Lazaridou & Baroni 2015.
    """
    return Correction(_globally_corrected, (), (np.sort(rows("gallery_bank", gallery_bank, ndim=2), axis=1),), "cosine")


def _globally_corrected(scores: Tile, query: tuple, gallery: tuple) -> Tile:
    (bank,) = gallery  # rows ascending
    at_most = jax.vmap(lambda row, s: jnp.searchsorted(row, s, side="right"), in_axes=(0, 1), out_axes=1)(bank, scores)
    return scores - (bank.shape[1] - at_most).astype(scores.dtype)
