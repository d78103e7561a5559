"""Hubness of a set against itself: the search, and all eight measures, against scikit-learn and library formulas.

    python benchmarks/hubness.py             20,000 points of d 1024 and 200,000 of d 128, k 10; about eight minutes

The peer is what one does today: scikit-learn's brute-force neighbours, N_k by numpy.bincount, and the measures by the
formulas of scikit-hubness (which no longer installs), written out here: scipy's skewness and truncated normal, and
Gini over all pairs, row by row, as the library does above 10,000 points. At 200,000 points scikit-learn and Gini
are timed on a part of the rows and multiplied, and marked so. The ratios stand last.
"""

import time
from collections.abc import Callable
from typing import Any

import measure
import numpy as np

K = 10


def by_library_formulas(counts: np.ndarray, k: int, rows_of_gini: int) -> tuple[dict[str, float], float]:
    """The eight measures of a square search, and what the seconds of Gini must be multiplied by."""
    from scipy import stats

    n, mean = len(counts), counts.mean()
    gini = 0.0
    for value in counts[:rows_of_gini]:
        gini += np.abs(counts - value).sum()
    hubs = counts[counts >= 2 * k]
    return {
        "k_skewness": stats.skew(counts),
        "k_skewness_truncnorm": stats.truncnorm(-mean / counts.std(ddof=1), np.inf).moment(3),
        "robinhood": 0.5 * np.abs(counts - mean).sum() / counts.sum(),
        "gini": gini / (2 * n * counts.sum()),
        "atkinson": 1 - np.mean(np.sqrt(counts)) ** 2 / mean,
        "antihub_occurrence": np.mean(counts == 0),
        "hub_occurrence": hubs.sum() / (k * n),
        "groupie_ratio": counts.max() / (k * n),
    }, n / min(n, rows_of_gini)


def seconds_of(call: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begun


def compare(points: np.ndarray, sklearn_rows: int, gini_rows: int, rounds: int) -> dict[str, float]:
    from sklearn.neighbors import NearestNeighbors

    from demjax.hubness import k_occurrence, measures
    from demjax.search import nearest

    n = len(points)
    brute = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(points)
    rows: dict[str, list[float]] = {"search": [], "statistics": [], "peer search": [], "peer statistics": []}
    for warm in range(rounds + 1):
        found, t_search = seconds_of(lambda: nearest(points, points, K, exclude_self=True))
        (counts, ours), t_stats = seconds_of(
            lambda found=found: (c := np.asarray(k_occurrence(found.ids, n)), measures(c, K, n))
        )
        if warm == 0:
            continue
        some = points[:sklearn_rows]
        _, t_peer = seconds_of(lambda some=some: brute.kneighbors(some, return_distance=False))
        (theirs, times), t_formulas = seconds_of(lambda counts=counts: by_library_formulas(counts, K, gini_rows))
        for name, value in zip(rows, (t_search, t_stats, t_peer * n / len(some), t_formulas * times), strict=True):
            rows[name].append(value)
    for name, value in theirs.items():
        if times == 1 or name != "gini":
            assert np.isclose(ours[name], value, rtol=1e-6), (name, ours[name], value)
    median = {name: measure.statistics.median(x) for name, x in rows.items()}
    print(f"{n:,} points, d {points.shape[1]}, k {K}; skewness {ours['k_skewness']:.2f}, Gini {ours['gini']:.3f}")
    part = f" (measured on {len(some):,} queries)" if len(some) < n else ""
    part_gini = f" (Gini on {gini_rows:,} rows)" if times > 1 else ""
    print(f"  demjax search {median['search']:.3f} s, scikit-learn {median['peer search']:.3f} s{part}")
    print(f"  demjax statistics {median['statistics']:.5f} s, formulas {median['peer statistics']:.3f} s{part_gini}")
    share = median["statistics"] / median["search"]
    print(f"  statistics take {share:.2%} of the search (aim at most 15 %)")
    print(f"  search {median['peer search'] / median['search']:.2f} x scikit-learn (aim 3)")
    print(f"  all measures {median['peer statistics'] / median['statistics']:.0f} x the formulas (aim 100)", flush=True)
    return median


def main(given: Any) -> None:
    import jax
    import sklearn

    print(measure.machine(jax, sklearn, np))
    rng = np.random.default_rng(0)
    result = {
        "20k": compare(rng.standard_normal((given.small, 1024), np.float32), given.small, given.small, given.rounds),
        "200k": compare(rng.standard_normal((given.large, 128), np.float32), 10_000, 5_000, 1),
    }
    measure.write(given.json, result)


if __name__ == "__main__":
    main(measure.options(__doc__, small=20_000, large=200_000))
