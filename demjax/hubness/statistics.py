"""N_k, the number of queries that have an item among their k nearest, and how skewed it is."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Integer


def k_occurrence(ids: Integer[Array, "q k"], n_gallery: int) -> Int[Array, " g"]:
    """N_k(j): in how many of the q lists of neighbours `ids` gallery item j stands. Sums to q * k.

    Reference: Zhang, Xiang & Gong 2017, their N_k in the study of hubness.
    """
    return jnp.zeros(n_gallery, jnp.int32).at[ids.ravel()].add(1)


def k_skewness(counts: Integer[Array | np.ndarray, " g"]) -> float:
    """Skewness of N_k over the gallery, m3 / m2^(3/2) with biased (population) moments.

    0 is symmetric, > 0 means hubs. NaN where it is undefined: all N_k equal. With a gallery of ten
    classes this is a statistic of ten numbers: look at N_k too.

    Reference: Zhang, Xiang & Gong 2017, "N_k skewness"; equal to `scipy.stats.skew`.
    """
    n = np.asarray(counts, np.float64)
    deviation = n - n.mean()
    variance = np.mean(deviation**2)
    return float(np.mean(deviation**3) / variance**1.5) if variance > 0 else float("nan")
