import numpy as np
import pytest
from scipy.special import logsumexp

from demjax.checks import UserError
from demjax.search import SCORES, all_scores, log_sum_exp, moments

from . import oracle

rng = np.random.default_rng(0)
QUERIES, GALLERY = rng.standard_normal((70, 6), np.float32), rng.standard_normal((300, 6), np.float32)


@pytest.mark.parametrize("score", sorted(SCORES))
def test_moments_equal_numpy_and_are_the_same_on_any_mesh(score, any_mesh, small_tiles):
    every = oracle.scores(QUERIES, GALLERY, score)
    mean, std = moments(QUERIES, GALLERY, score, any_mesh)
    np.testing.assert_allclose(mean, every.mean(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(std, every.std(axis=1), rtol=1e-5)
    for a, b in zip((mean, std), moments(QUERIES, GALLERY, score), strict=True):
        np.testing.assert_array_equal(a, b)


def test_moments_without_oneself(mesh, small_tiles):
    every = oracle.scores(GALLERY, GALLERY, "euclidean")
    np.fill_diagonal(every, np.nan)
    mean, std = moments(GALLERY, GALLERY, mesh=mesh, exclude_self=True)
    np.testing.assert_allclose(mean, np.nanmean(every, axis=1), rtol=1e-5)
    np.testing.assert_allclose(std, np.nanstd(every, axis=1), rtol=1e-4)


def test_a_large_mean_does_not_drown_the_deviation():
    """The sum of squares minus the square of the sum would."""
    far = 1e4 + GALLERY[:, :1]
    mean, std = moments(np.ones((2, 1), np.float32), far, "dot")
    np.testing.assert_allclose(std, far.astype(np.float64).std(), rtol=1e-3)


@pytest.mark.parametrize("beta", [1.0, 30.0, 1000.0])
def test_log_sum_exp(beta, mesh, small_tiles):
    found = log_sum_exp(QUERIES, GALLERY, beta, "cosine", mesh)
    np.testing.assert_allclose(found, logsumexp(beta * oracle.scores(QUERIES, GALLERY, "cosine"), axis=1), rtol=2e-6)
    np.testing.assert_array_equal(found, log_sum_exp(QUERIES, GALLERY, beta, "cosine"))


def test_log_sum_exp_without_oneself(mesh, small_tiles):
    every = oracle.scores(GALLERY, GALLERY, "cosine")
    np.fill_diagonal(every, -np.inf)
    found = log_sum_exp(GALLERY, GALLERY, 30.0, "cosine", mesh, exclude_self=True)
    np.testing.assert_allclose(found, logsumexp(30 * every, axis=1), rtol=2e-6)


def test_all_scores(mesh, small_tiles):
    for score in SCORES:
        found = all_scores(QUERIES, GALLERY, score, mesh)
        np.testing.assert_allclose(found, oracle.scores(QUERIES, GALLERY, score), atol=3e-6)
    with pytest.raises(UserError, match="expected at most 5e.08 in memory"):
        all_scores(np.zeros((30_000, 2), np.float32), np.zeros((20_000, 2), np.float32))


def test_bad_beta():
    with pytest.raises(UserError, match="beta is 0.0: expected a number > 0"):
        log_sum_exp(QUERIES, GALLERY, 0.0)
