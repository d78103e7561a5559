import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demjax.search import topk


def stable(scores, k):
    at = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, at, axis=1), at


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([1024, 1152, 4096]), st.sampled_from([1, 2, 10, 33, 300]), st.integers(0, 999), st.integers(1, 6)
)
def test_equals_a_stable_sort_with_many_ties(n, k, seed, values):
    scores = np.random.default_rng(seed).integers(0, values, (3, n)).astype(np.float32)
    for found, expected in zip(jax.jit(topk.top_k, static_argnums=1)(scores, k), stable(scores, k), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("n", [1, 5, 1000, 1023, 1025])
def test_rows_that_are_short_or_do_not_divide(n):
    scores = np.random.default_rng(n).standard_normal((4, n), np.float32)
    k = min(n, 7)
    np.testing.assert_array_equal(topk.top_k(jnp.array(scores), k)[1], stable(scores, k)[1])


def test_neighbouring_floats_minus_infinity_and_minus_zero():
    row = np.full(2048, -np.inf, np.float32)
    row[1700], row[900], row[3], row[2000] = 1.0, np.nextafter(np.float32(1), np.float32(2)), -0.0, 0.0
    found, at = topk.top_k(jnp.array(row[None]), 6)
    assert at[0].tolist() == [900, 1700, 3, 2000, 0, 1] and found[0, 0] > found[0, 1]


def test_the_groups_are_used_and_the_lower_group_must_win_ties():
    """A mutant that takes the chosen groups in the order of their maxima, not of their positions, is wrong."""
    n, k = 4096, 2
    length = topk.group_length(n, k)
    assert n % length == 0 and length >= 16
    row = np.zeros((1, n), np.float32)
    row[0, 2 * length], row[0, 2 * length + 1] = 2, 1  # the group that stands first by its maximum ...
    row[0, 5] = 1  # ... holds a tie with a lower group
    assert topk.top_k(jnp.array(row), k)[1].tolist() == [[2 * length, 5]]
    grouped = row.reshape(1, -1, length)
    chosen = np.asarray(jax.lax.top_k(grouped.max(-1), k)[1])
    members = np.take_along_axis(grouped, chosen[:, :, None], axis=1).reshape(1, -1)
    at = np.asarray(jax.lax.top_k(members, k)[1])
    mutant = np.take_along_axis(chosen, at // length, axis=1) * length + at % length
    assert mutant.tolist() == [[2 * length, 2 * length + 1]]
