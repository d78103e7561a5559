import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew

from demjax.hubness import k_occurrence, k_skewness


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 4), st.integers(0, 999))
def test_k_occurrence_counts(n_queries, n_gallery, k, seed):
    ids = np.random.default_rng(seed).integers(0, n_gallery, (n_queries, k))
    counts = k_occurrence(jnp.array(ids), n_gallery)
    assert counts.tolist() == [sum(int(i == j) for i in ids.ravel()) for j in range(n_gallery)]
    assert int(counts.sum()) == n_queries * k


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 40), min_size=2, max_size=30))
def test_skewness_equals_scipy(counts):
    if len(set(counts)) == 1:
        assert math.isnan(k_skewness(np.array(counts)))
    else:
        assert k_skewness(np.array(counts)) == pytest.approx(skew(counts), rel=1e-6, abs=1e-9)


def test_skewness_by_hand():
    # mean 1, deviations -1 -1 -1 3: m2 = 12/4, m3 = 24/4
    assert k_skewness(np.array([0, 0, 0, 4])) == pytest.approx(6 / 3**1.5)
