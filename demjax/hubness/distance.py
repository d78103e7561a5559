"""Corrections of Euclidean distances; scores are s = -d."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float

from demjax.checks import UserError
from demjax.hubness.correction import Correction, PerItem, PerQuery, Tile, positive, rows

LEAST_STD = 1e-6  # of the mean: about the resolution of a float32 distance


def local_scaling(query_radius: PerQuery, gallery_radius: PerItem) -> Correction:
    """Local scaling, -d^2 / (r_x r_y), r the distance to the k-th neighbour on the other side (k = 5); <= 0.

    A monotone form of the published distance 1 - exp(-d^2 / (r_x r_y)), which in float32 is 1 for all d^2 > 17 r_x r_y.
    UserError unless all are finite and > 0 (0: at least k duplicates; take a greater k).

    Reference: Zelnik-Manor & Perona 2004; for hubs Schnitzer, Flexer, Schedl & Widmer 2012.
    """
    x, y = positive("query_radius", query_radius), positive("gallery_radius", gallery_radius)
    return Correction(_local_scaling, (x,), (y,), "euclidean")


def _local_scaling(scores: Tile, query: tuple, gallery: tuple) -> Tile:
    (r_x,), (r_y,) = query, gallery
    return -(scores / r_x[:, None]) * (scores / r_y[None, :])


def nicdm(query_mean: PerQuery, gallery_mean: PerItem) -> Correction:
    """Non-iterative contextual dissimilarity, -d / sqrt(mu_x mu_y), mu the mean of the k least distances (k = 5); <= 0.

    UserError unless all are finite and > 0.

    Reference: Jégou, Harzallah & Schmid 2007; non-iterative Schnitzer, Flexer, Schedl & Widmer 2012.
    """
    x, y = positive("query_mean", query_mean), positive("gallery_mean", gallery_mean)
    return Correction(_nicdm, (x,), (y,), "euclidean")


def _nicdm(scores: Tile, query: tuple, gallery: tuple) -> Tile:
    (mu_x,), (mu_y,) = query, gallery
    return scores / (jnp.sqrt(mu_x)[:, None] * jnp.sqrt(mu_y)[None, :])


def mutual_proximity_gaussian(
    query_mean: PerQuery, query_std: PerQuery, gallery_mean: PerItem, gallery_std: PerItem
) -> Correction:
    """Mutual proximity with normal distances, log SF(d; mu_x, sigma_x) + log SF(d; mu_y, sigma_y); <= 0.

    SF is the normal survival function, P(a distance of x > d). The published distance is 1 - exp(score), which rounds
    to 1 for far pairs; the score stays finite and ordered. A std of 0 (one reference, or all equally far) counts as
    1e-6 of its mean: nearly a step at the mean.

    Args:
      query_mean, query_std: mean and std (ddof 0) of each query's distances to the gallery.
      gallery_mean, gallery_std: mean and std of each item's distances to the bank.

    UserError unless all are finite and >= 0, with a std for each mean.

    Reference: Schnitzer, Flexer, Schedl & Widmer 2012.
    """
    x, y = _moments("query", query_mean, query_std), _moments("gallery", gallery_mean, gallery_std)
    return Correction(_mp_gaussian, x, y, "euclidean")


def _moments(side: str, mean, std) -> tuple[np.ndarray, np.ndarray]:
    mean, std = rows(f"{side}_mean", mean, least=0), rows(f"{side}_std", std, least=0)
    if mean.shape != std.shape:
        raise UserError(f"{side}_std has {len(std)} rows: expected {len(mean)}, as {side}_mean")
    return mean, np.maximum(std, np.maximum(LEAST_STD * mean, 1e-12))


def _mp_gaussian(scores: Tile, query: tuple, gallery: tuple) -> Tile:
    (mu_x, sigma_x), (mu_y, sigma_y) = query, gallery
    from_query = log_ndtr((scores + mu_x[:, None]) / sigma_x[:, None])
    return from_query + log_ndtr((scores + mu_y[None, :]) / sigma_y[None, :])


def mutual_proximity_empirical(
    query_bank: Float[Array | np.ndarray, "q r"], gallery_bank: Float[Array | np.ndarray, "g r"]
) -> Correction:
    """Mutual proximity by counting, |{j: d_xj > d_xy and d_yj > d_xy}| / r over r reference points; 0 to 1.

    The published distance is 1 - score. Values are multiples of 1/r, so ties are common (lowest id). Costs r
    comparisons a pair, in tiles of scores: no [q, g, r] array. In a square search the references are the objects.

    Args:
      query_bank, gallery_bank: scores (the kind of s: -d) of each query, and of each item, to the same references.

    UserError unless all are finite and both have the same references.

    Reference: Schnitzer, Flexer, Schedl & Widmer 2012.
    """
    x, y = rows("query_bank", query_bank, ndim=2), rows("gallery_bank", gallery_bank, ndim=2)
    if x.shape[1] != y.shape[1]:
        raise UserError(f"gallery_bank has {y.shape[1]} references: expected {x.shape[1]}, those of query_bank")
    return Correction(_mp_empirical, (x,), (y,), "euclidean")


def _mp_empirical(scores: Tile, query: tuple, gallery: tuple) -> Tile:
    (x,), (y,) = query, gallery

    def count(farther, reference):
        s_x, s_y = reference
        return farther + (jnp.maximum(s_x[:, None], s_y[None, :]) < scores).astype(jnp.int32), None

    farther, _ = jax.lax.scan(count, jnp.zeros_like(scores, jnp.int32), (x.T, y.T), unroll=8)
    return farther.astype(scores.dtype) / x.shape[1]


def dis_sim_local(query_offset: PerQuery, gallery_offset: PerItem) -> Correction:
    """DisSim-Local, -d^2 + ||x - c(x)||^2 + ||y - c(y)||^2, of squared Euclidean distances only; any sign, no shift.

    c(x): centroid of the k items nearest to query x; c(y): centroid of the k bank queries nearest to item y.
    UserError unless all are finite and >= 0.

    Reference: Hara, Suzuki, Kobayashi, Fukumizu & Radovanović 2016.
    """
    x, y = rows("query_offset", query_offset, least=0), rows("gallery_offset", gallery_offset, least=0)
    return Correction(_dis_sim_local, (x,), (y,), "euclidean")


def _dis_sim_local(scores: Tile, query: tuple, gallery: tuple) -> Tile:
    (of_x,), (of_y,) = query, gallery
    return of_x[:, None] + of_y[None, :] - scores * scores
