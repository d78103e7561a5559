"""The eight measures and k_occurrence against formulas written out in float64 over all items and pairs."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew, truncnorm

from demjax.checks import UserError
from demjax.hubness import k_occurrence, measures
from demjax.search import nearest

occurrences = inspect.unwrap(k_occurrence)  # without the shape checks of the tests, as a user calls it


def spelled_out(counts, k, n_queries, hub_size=2.0, epsilon=0.5):
    """Every measure by its definition; no histogram, no sorting."""
    n, slots, mean = len(counts), k * n_queries, k * n_queries / len(counts)
    std = math.sqrt(sum((c - mean) ** 2 for c in counts) / (n - 1))
    if epsilon == 1:
        power_mean = math.prod(counts) ** (1 / n)
    else:
        power_mean = np.mean(np.asarray(counts, float) ** (1 - epsilon)) ** (1 / (1 - epsilon))
    return {
        "k_skewness": skew(counts),
        "k_skewness_truncnorm": truncnorm(-mean / std, np.inf).moment(3),
        "robinhood": sum(abs(c - mean) for c in counts) / 2 / slots,
        "gini": sum(abs(a - b) for a in counts for b in counts) / (2 * n * slots),
        "atkinson": 1 - power_mean / mean,
        "antihub_occurrence": sum(c == 0 for c in counts) / n,
        "hub_occurrence": sum(c for c in counts if c >= hub_size * mean) / slots,
        "groupie_ratio": max(counts) / slots,
    }


def spread(n, k, n_queries, seed):
    """N_k of a random search: some items are preferred."""
    rng = np.random.default_rng(seed)
    weight = rng.gamma(0.7, size=n) + 1e-3
    ids = [rng.choice(n, k, replace=False, p=weight / weight.sum()) for _ in range(n_queries)]
    return np.bincount(np.concatenate(ids), minlength=n)


@settings(deadline=None, max_examples=40)
@given(st.integers(3, 30), st.integers(1, 60), st.integers(0, 999), st.data())
def test_equal_to_the_definitions(n, n_queries, seed, data):
    k = data.draw(st.integers(1, n - 1))
    epsilon = data.draw(st.sampled_from([0.0, 0.5, 0.9]))
    hub_size = data.draw(st.sampled_from([0.5, 2.0, 3.5]))
    counts = spread(n, k, n_queries, seed)
    got = measures(counts, k, n_queries, hub_size=hub_size, atkinson_epsilon=epsilon)
    if len(set(counts.tolist())) == 1:
        assert math.isnan(got.pop("k_skewness")) and math.isnan(got.pop("k_skewness_truncnorm"))
        assert got["gini"] == got["robinhood"] == 0 and got["atkinson"] == pytest.approx(0, abs=1e-12)
        return
    want = spelled_out(counts.tolist(), k, n_queries, hub_size, epsilon)
    assert list(got) == list(want)
    for name, value in want.items():
        assert got[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_by_hand():
    """Four items, six queries, k 2: N = 6 3 3 0, mean 3."""
    got = measures(np.array([6, 3, 3, 0]), 2, 6)
    assert got["robinhood"] == pytest.approx((3 + 0 + 0 + 3) / 24)
    assert got["gini"] == pytest.approx(2 * (3 + 3 + 6 + 0 + 3 + 3) / (2 * 4 * 12))
    assert got["atkinson"] == pytest.approx(1 - ((math.sqrt(6) + 2 * math.sqrt(3)) / 4) ** 2 / 3)
    assert (got["antihub_occurrence"], got["hub_occurrence"], got["groupie_ratio"]) == (1 / 4, 1 / 2, 1 / 2)
    assert got["k_skewness"] == 0


def test_the_rectangular_case_divides_by_queries_not_by_items():
    """Ten prototypes, a thousand queries, all alike: the square formulas would call every prototype a hub."""
    counts = np.full(10, 100)
    counts[0], counts[1] = 250, 0
    counts[2] = 50
    got = measures(counts, 1, 1000)
    assert got["hub_occurrence"] == 0.25  # a threshold of hub_size * k = 2 would give 1
    assert got["groupie_ratio"] == 0.25  # division by k * n_gallery would give 25
    assert got["robinhood"] == pytest.approx((150 + 100 + 50) / 2000)


@pytest.mark.parametrize("epsilon", [1.0, 1.0 + 1e-9, 1 - 1e-9])
def test_atkinson_around_one_is_the_geometric_mean(epsilon):
    counts = np.array([1, 2, 4, 8, 5])
    got = measures(counts, 4, 5, atkinson_epsilon=epsilon)["atkinson"]
    assert got == pytest.approx(spelled_out(counts.tolist(), 4, 5, epsilon=1)["atkinson"], rel=1e-7)


def test_atkinson_beyond_one():
    assert measures(np.array([0, 4, 4]), 2, 4, atkinson_epsilon=1.5)["atkinson"] == 1
    got = measures(np.array([2, 4, 6]), 2, 6, atkinson_epsilon=2.0)["atkinson"]
    assert got == pytest.approx(1 - (3 / (1 / 2 + 1 / 4 + 1 / 6)) / 4)  # harmonic mean
    assert measures(np.array([1, 10**6, 1]), 2, 500_001, atkinson_epsilon=900.0)["atkinson"] < 1  # no overflow


def test_large_counts_keep_their_last_digit():
    counts = np.array([2**30, 2**30 + 1, 2**30 + 2, 2**30 + 5], dtype=np.int64)
    got = measures(counts, 1, int(counts.sum()))
    assert got["k_skewness"] == pytest.approx(skew([0, 1, 2, 5]), rel=1e-6)
    assert got["gini"] == pytest.approx(2 * (1 + 2 + 5 + 1 + 4 + 3) / (2 * 4 * int(counts.sum())), rel=1e-6)


@pytest.mark.parametrize("exclude_self", [False, True])
def test_counting_block_by_block_is_counting_at_once(exclude_self):
    ids = np.random.default_rng(0).integers(0, 23, (23, 4))
    whole = occurrences(ids, 23, exclude_self=exclude_self)
    counts = None
    for start in range(0, 23, 5):
        counts = occurrences(
            ids[start : start + 5], 23, exclude_self=exclude_self, first_query=start * exclude_self, counts=counts
        )
    np.testing.assert_array_equal(counts, whole)
    assert int(whole.sum()) == 23 * (3 if exclude_self else 4)


def test_self_is_left_out_even_among_duplicates():
    """Five equal points, then two others: the lists of the last duplicates do not hold themselves."""
    x = np.zeros((7, 2), np.float32)
    x[5:] = [[3, 0], [3, 1]]
    ids = nearest(x, x, 3).ids
    assert ids[4].tolist() == [0, 1, 2]
    counts = occurrences(ids, 7, exclude_self=True)
    want = np.zeros(7, int)
    for i, row in enumerate(ids.tolist()):
        for j in [j for j in row if j != i][:2]:
            want[j] += 1
    assert counts.tolist() == want.tolist() and measures(counts, 2, 7)["groupie_ratio"] == want.max() / 14
    np.testing.assert_array_equal(occurrences(nearest(x, x, 2, exclude_self=True).ids, 7), want)


def test_under_jit_ids_out_of_range_are_left_out():
    counts = jax.jit(lambda ids: occurrences(ids, 3))(jnp.array([[0, 2], [-1, 7]]))
    assert counts.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: occurrences(np.array([[0, 5]]), 5), r"ids has 5: expected 0 to 4; were the lists made on another"),
        (lambda: occurrences(jnp.array([[0, 5]]), 5), "ids has 5"),
        (lambda: occurrences(np.array([[0, -1]]), 5), "ids has -1.*padding"),
        (lambda: occurrences(np.array([[2**32, 1]]), 5), "ids has 4294967296"),
        (lambda: occurrences(np.array([[0]]), 0), "n_gallery is 0"),
        (lambda: occurrences(np.array([[0]]), 5, counts=np.zeros(4, int)), r"counts has shape \(4,\)"),
        (lambda: occurrences(np.array([[0]]), 5, exclude_self=True), "search one neighbour more"),
        (lambda: occurrences(np.zeros((6, 2), int), 5, exclude_self=True), "row for query 5"),
        (lambda: occurrences(np.zeros((2, 2), int), 5, exclude_self=True, first_query=4), "row for query 5"),
        (lambda: measures(np.array([3, 3, 3]), 1, 10), "sum to 9: expected .* 10; self-hits"),
        (lambda: measures(np.array([6, 6, 6]), 1, 9), "every list has k [+] 1: drop self-hits"),
        (lambda: measures(np.array([3, -1, 3]), 1, 5), "counts has -1.*overflow int32"),
        (lambda: measures(np.array([], int), 1, 5), "k is 1|counts is empty"),
        (lambda: measures(np.array([5, 5, 5]), 3, 5), "k is 3: expected less than the 3 gallery items"),
        (lambda: measures(np.array([5, 0]), 0, 5), "k is 0"),
        (lambda: measures(np.array([5, 0]), 1, 0), "n_queries is 0"),
        (lambda: measures(np.array([5, 0]), 1, 5, hub_size=0.0), "hub_size is 0"),
        (lambda: measures(np.array([5, 0]), 1, 5, atkinson_epsilon=-0.1), "atkinson_epsilon is -0.1"),
    ],
)
def test_bad_input(call, told):
    with pytest.raises(UserError, match=told):
        call()
