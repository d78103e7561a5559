import math
from inspect import unwrap  # as outside pytest, types unchecked

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew

from demjax.checks import UserError
from demjax.hubness import k_occurrence, k_skewness, measures
from demjax.mesh import data_mesh
from demjax.search import nearest


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


@pytest.mark.parametrize("ids", [np.array([[0.9, 1.9]]), np.array([[True]]), np.array([0, 1])])
def test_ids_are_lists_of_whole_numbers(ids):
    with pytest.raises(UserError, match="expected integers"):
        unwrap(k_occurrence)(ids, 3)


@pytest.mark.parametrize("counts", [np.array([1.0, 2.0]), np.array([[1, 2]])])
def test_counts_are_whole_numbers(counts):
    with pytest.raises(UserError, match="expected integers"):
        unwrap(measures)(counts, 1, 3)


def test_numbers_of_numpy_are_numbers():
    counts = np.array([2, 1, 0])
    assert unwrap(measures)(counts, np.int64(1), np.int64(3)) == measures(counts, 1, 3)


def test_the_same_counts_on_any_number_of_devices():
    rng = np.random.default_rng(0)
    queries, gallery = rng.integers(-2, 3, (90, 4)).astype(np.float32), rng.integers(-2, 3, (53, 4)).astype(np.float32)
    counts = []
    for devices in (1, 3, 8):
        mesh = data_mesh(jax.devices()[:devices])
        found = nearest(jnp.asarray(queries), jnp.asarray(gallery), 7, mesh=mesh)
        counts.append(np.asarray(k_occurrence(found.ids, 53)))
    d2 = ((queries[:, None] - gallery[None]) ** 2).sum(axis=-1)
    expected = np.bincount(np.argsort(d2, axis=1, kind="stable")[:, :7].ravel(), minlength=53)
    for n in counts:
        np.testing.assert_array_equal(n, expected)
