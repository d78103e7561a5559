"""N_k, the number of queries that have an item among their k nearest, and how unevenly it is spread.

Notation: n gallery items, n_q queries, N_j = N_k(j), mean Nbar = k n_q / n. Queries and gallery may be different
sets (rectangular): every mean and share is over the n gallery items, those with N = 0 included, and a share of the
slots is over k n_q. Equal scores across the k-th place are the search's business: N_k follows its rule (lowest id).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Integer
from scipy.special import erfcx, logsumexp

from demjax.checks import UserError, in_range


def k_occurrence(
    ids: Integer[Array | np.ndarray, "q k"],
    n_gallery: int,
    *,
    exclude_self: bool = False,
    first_query: int = 0,
    counts: Integer[Array | np.ndarray, " g"] | None = None,
) -> Int[Array, " g"]:
    """N_k(j): in how many of the q lists of neighbours gallery item j stands; int32, on the device. Sums to q * k.

    Args:
      ids: ids of neighbours, 0 to n_gallery - 1, one list per query.
      exclude_self: the queries are the gallery (square), and the lists have k + 1 columns: query i drops i, or, where
        i is not in its list (more than k duplicates ranked before it), the last entry. So k of each list count.
      first_query: number of the query in row 0, for `exclude_self` on blocks of queries.
      counts: N_k of the blocks before; the result is the sum. Blocks of any size give the same integers.

    Raises:
      UserError: an id, the shape of `counts`, or with `exclude_self` a query number or the number of columns is out
        of range. Under jit ids cannot be looked at: those out of range are left out.

    Reference: Zhang, Xiang & Gong 2017, their N_k in the study of hubness.
    """
    in_range("n_gallery", n_gallery, 1, 2**31 - 1)
    if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise UserError(f"ids are {ids.dtype} {ids.shape}: expected integers [q, k], a list of neighbours per query")
    if exclude_self:
        _check_square(ids.shape, n_gallery, first_query)
    if counts is not None and counts.shape != (n_gallery,):
        raise UserError(f"counts has shape {counts.shape}: expected ({n_gallery},), one N_k per gallery item")
    if isinstance(ids, np.ndarray) and ids.size:
        _check_ids(int(ids.min()), int(ids.max()), n_gallery)  # before int64 becomes int32
    before = jnp.zeros(n_gallery, jnp.int32) if counts is None else jnp.asarray(counts, jnp.int32)
    total, low, high = _count(jnp.asarray(ids, jnp.int32), before, first_query, exclude_self)
    if isinstance(ids, jax.Array) and ids.size and not isinstance(low, jax.core.Tracer):
        _check_ids(int(low), int(high), n_gallery)
    return total


@functools.partial(jax.jit, static_argnames="exclude_self")
def _count(ids, counts, first_query, exclude_self):
    """counts plus the occurrences in `ids`, and the least and greatest id."""
    keep = _not_self(ids, first_query) if exclude_self else jnp.ones(ids.shape, bool)
    kept = jnp.where(keep & (ids >= 0), ids, counts.size)  # an index past the end is dropped, -1 would wrap
    total = counts.at[kept.ravel()].add(1, mode="drop")
    return total, jnp.min(ids, initial=0), jnp.max(ids, initial=0)


def _not_self(ids: Int[Array, "q k"], first_query) -> Bool[Array, "q k"]:
    """All entries of each list but one: the query itself, or the last."""
    rows, columns = ids.shape
    is_self = ids == (first_query + jnp.arange(rows, dtype=ids.dtype))[:, None]
    dropped = jnp.where(is_self.any(axis=1), is_self.argmax(axis=1), columns - 1)
    return jnp.arange(columns)[None, :] != dropped[:, None]


def _check_square(shape: tuple[int, ...], n_gallery: int, first_query: int) -> None:
    in_range("first_query", first_query, 0)
    if shape[1] < 2:
        raise UserError(f"ids has {shape[1]} column: with exclude_self expected k + 1 >= 2, search one neighbour more")
    if first_query + shape[0] > n_gallery:
        last = first_query + shape[0] - 1
        raise UserError(
            f"ids has a row for query {last}: exclude_self expects queries 0 to {n_gallery - 1}, the gallery"
        )


def _check_ids(low: int, high: int, n_gallery: int) -> None:
    if low < 0 or high >= n_gallery:
        wrong = low if low < 0 else high
        hint = "is it padding of lists with fewer than k?" if low < 0 else "were the lists made on another gallery?"
        raise UserError(f"ids has {wrong}: expected 0 to {n_gallery - 1}; {hint}")


def k_skewness(counts: Integer[Array | np.ndarray, " g"]) -> float:
    """Skewness of N_k over the gallery, m3 / m2^(3/2) with biased (population) moments.

    0 is symmetric, > 0 means hubs. NaN where it is undefined: all N_k equal. With a gallery of ten
    classes this is a statistic of ten numbers: look at N_k too.

    Reference: Zhang, Xiang & Gong 2017, "N_k skewness"; equal to `scipy.stats.skew`.
    """
    return _skewness(*_histogram(np.asarray(counts)))


def measures(
    counts: Integer[Array | np.ndarray, " g"],
    k: int,
    n_queries: int,
    *,
    hub_size: int | float = 2.0,
    atkinson_epsilon: int | float = 0.5,
) -> dict[str, float]:
    """How uneven N_k is, by eight measures, in float64 from one histogram of N_k.

        k_skewness           m3 / m2^(3/2), biased moments; 0 symmetric, > 0 hubs. NaN when all N are equal.
        k_skewness_truncnorm third raw moment of a standard normal cut to [a, inf), a = -Nbar / std(N, ddof 1):
                             (a^2 + 2) phi(a) / (1 - Phi(a)). A function of Nbar / std only. NaN when all N are equal.
        robinhood            sum |N - Nbar| / (2 sum N): share of slots to move for equality; 0 to 1 - 1/n.
        gini                 sum_ij |N_i - N_j| / (2 n sum N); 0 to 1 - 1/n.
        atkinson             1 - mean(N^(1-e))^(1/(1-e)) / Nbar; e = 1: 1 - geometric mean / Nbar; 0 to 1. For e >= 1
                             it is 1 as soon as one N is 0.
        antihub_occurrence   share of items with N = 0; 0 to 1.
        hub_occurrence       share of the slots taken by items with N >= hub_size * Nbar; 0 to 1.
        groupie_ratio        share of the slots taken by the largest hub, max N / (k n_q); 1/n to 1/k.

    In a square search Nbar = k, and all are those of scikit-hubness. In a rectangular one the library's threshold
    hub_size * k and its division by k n are not used: with few prototypes and many queries all would be hubs.

    Args:
      counts: N_k of every gallery item, from `k_occurrence`.
      k: neighbours per query, 1 to n - 1 (from k = n on all N are n_q).
      n_queries: queries counted, the test of `counts`: they must sum to k * n_queries.
      hub_size: > 0.
      atkinson_epsilon: e >= 0, the weight of items with small N_k.

    Raises:
      UserError: a number out of its range, a negative count, or counts that do not sum to k * n_queries.

    Reference: Feldbauer, Rattei & Flexer 2020, scikit-hubness, `skhubness.analysis`.
    """
    if counts.ndim != 1 or not jnp.issubdtype(counts.dtype, jnp.integer):
        raise UserError(f"counts are {counts.dtype} {counts.shape}: expected integers [g], one N_k per gallery item")
    n = counts.shape[0]
    in_range("k", k, 1)
    in_range("n_queries", n_queries, 1)
    in_range("hub_size", hub_size, 0, open_low=True)
    in_range("atkinson_epsilon", atkinson_epsilon, 0)
    if k >= n:
        raise UserError(f"k is {k}: expected less than the {n} gallery items, else every N_k is the number of queries")
    values, times = _histogram(np.asarray(counts))
    k, n_queries = int(k), int(n_queries)
    total = _checked_total(values, times, k, n_queries)
    hubs = values * n >= hub_size * total
    return {
        "k_skewness": _skewness(values, times),
        "k_skewness_truncnorm": _truncated_normal_skewness(values, times),
        "robinhood": float(np.sum(times * np.abs(values - total / n)) / (2 * total)),
        "gini": _gini(values, times),
        "atkinson": _atkinson(values, times, atkinson_epsilon),
        "antihub_occurrence": float(np.sum(times[values == 0]) / n),
        "hub_occurrence": float(np.sum((values * times)[hubs]) / total),
        "groupie_ratio": float(values[-1] / total),
    }


def _histogram(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct N in ascending order and how many items have each, both float64 (exact below 2^53)."""
    if counts.size == 0 or counts.min() < 0:
        got = "is empty" if counts.size == 0 else f"has {counts.min()}"
        raise UserError(f"counts {got}: expected N_k >= 0 of at least one item; more than 2^31 queries overflow int32")
    if counts.max() <= 4 * counts.size + 1024:  # few bins: no sort
        times = np.bincount(counts)
        values = np.flatnonzero(times)
        times = times[values]
    else:
        values, times = np.unique(counts, return_counts=True)
    return values.astype(np.float64), times.astype(np.float64)


def _checked_total(values: np.ndarray, times: np.ndarray, k: int, n_queries: int) -> int:
    total = int(np.sum(values * times))
    if total != k * n_queries:
        cause = "self-hits kept or dropped by hand, a block of queries missing or counted twice, or another k?"
        if total == (k + 1) * n_queries:
            cause = "every list has k + 1: drop self-hits with k_occurrence(..., exclude_self=True)"
        raise UserError(f"counts sum to {total}: expected k * n_queries = {k} * {n_queries} = {k * n_queries}; {cause}")
    return total


def _skewness(values: np.ndarray, times: np.ndarray) -> float:
    if len(values) == 1:
        return math.nan
    n = times.sum()
    deviation = values - np.sum(values * times) / n
    m2, m3 = (float(np.sum(times * deviation**p) / n) for p in (2, 3))
    return m3 / m2**1.5


def _truncated_normal_skewness(values: np.ndarray, times: np.ndarray) -> float:
    if len(values) == 1:
        return math.nan
    n = times.sum()
    mean = np.sum(values * times) / n
    a = -mean / math.sqrt(np.sum(times * (values - mean) ** 2) / (n - 1))
    hazard = math.sqrt(2 / math.pi) / erfcx(a / math.sqrt(2))  # phi(a) / (1 - Phi(a)), neither 0/0 nor inf/inf
    return float((a * a + 2) * hazard)


def _gini(values: np.ndarray, times: np.ndarray) -> float:
    """sum_i (2 i - n - 1) N_(i) / (n sum N) over ascending N; equal values in one term."""
    n = times.sum()
    smaller = np.cumsum(times) - times
    return float(np.sum(values * times * (2 * smaller + times - n)) / (n * np.sum(values * times)))


def _atkinson(values: np.ndarray, times: np.ndarray, epsilon: int | float) -> float:
    """1 - (power mean of N / Nbar), in logs; near epsilon = 1 through expm1, where the power mean is 0/0."""
    if values[0] == 0 and epsilon >= 1:
        return 1.0
    share, power = times / times.sum(), 1 - epsilon
    relative = values / np.sum(values * share)
    logs = np.log(relative, out=np.full_like(relative, -np.inf), where=relative > 0)
    if power == 0:
        log_mean = np.sum(share * logs)
    elif np.max(power * logs) < 1:
        log_mean = np.log1p(np.sum(share * np.expm1(power * logs))) / power
    else:
        log_mean = logsumexp(power * logs, b=share) / power
    return float(-np.expm1(log_mean))
