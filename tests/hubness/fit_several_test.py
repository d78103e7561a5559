"""Corrections of scores that are no single product: several vectors a query, means of the best, functions of pairs."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from demjax import hubness
from demjax.checks import UserError
from demjax.hubness import CORRECTIONS
from demjax.mesh import data_mesh
from demjax.search import Pair, Score, nearest

rng = np.random.default_rng(3)
GALLERY = rng.standard_normal((33, 6), np.float32)
QUERIES = rng.standard_normal((20, 3, 6), np.float32)
# Those of one bank query are close to each other: counted one by one they would fill the ten nearest.
BANK = rng.standard_normal((40, 1, 6), np.float32) + 0.1 * rng.standard_normal((40, 3, 6), np.float32)
BANK[7, 1] = BANK[7, 0]


def vector_scores(queries, gallery, kind):
    """float64 [q, g, m]."""
    q, g = queries.astype(np.float64), gallery.astype(np.float64)
    if kind == "euclidean":
        return -np.sqrt(((q[:, None] - g[None, :, None]) ** 2).sum(-1))
    q, g = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, g))
    return np.einsum("qmd,gd->qgm", q, g)


def corrected(method, s, sb):
    """The published formulas of scores s [q, g] with the gallery and sb [g, r] with the bank."""
    r, rb = np.sort(s, axis=1)[:, ::-1], np.sort(sb, axis=1)[:, ::-1]
    soft = 20 * s - logsumexp(20 * sb, axis=1)[None]
    active = np.isin(s.argmax(axis=1), sb.argmax(axis=0))
    sides = ((-s, -s.mean(1)[:, None], s.std(1)[:, None]), (-s, -sb.mean(1)[None], sb.std(1)[None]))
    return {
        "csls": lambda: 2 * s - r[:, :10].mean(1)[:, None] - rb[:, :10].mean(1)[None],
        "nnn": lambda: s - 0.75 * rb.mean(1)[None],  # a bank of 40 < 128
        "isf": lambda: soft,
        "dynamic_isf": lambda: np.where(active[:, None], soft, s),
        "gc": lambda: s - (sb[None] > s[:, :, None]).sum(-1),
        "local_scaling": lambda: -(s**2) / (r[:, 4][:, None] * rb[:, 4][None]),
        "nicdm": lambda: s / np.sqrt(r[:, :5].mean(1)[:, None] * rb[:, :5].mean(1)[None]),
        "mp_gaussian": lambda: sum(norm.logsf(*side) for side in sides),
    }[method]()


def check(method, queries, gallery, bank, score, every, mesh=None):
    fitted = hubness.fit(method, queries, gallery, bank, score=score, mesh=mesh)
    found = nearest(queries, gallery, 5, score, mesh, correction=fitted)
    np.testing.assert_allclose(found.scores, -np.sort(-every, axis=1)[:, :5], rtol=3e-4, atol=3e-5)
    return fitted


@pytest.mark.parametrize("method", hubness.SEVERAL)
@pytest.mark.parametrize(("count", "devices"), [(1, 1), (2, 3)])
def test_of_several_vectors_a_query(method, count, devices):
    kind = CORRECTIONS[method].scores[0]
    s, sb = (np.sort(vector_scores(x, GALLERY, kind))[:, :, -count:].mean(-1) for x in (QUERIES, BANK))
    score = kind if count == 1 else Score(kind, 3, count)
    check(method, QUERIES, GALLERY, BANK, score, corrected(method, s, sb.T), data_mesh(jax.devices()[:devices]))


def bilinear(weight, queries, gallery):
    """The greatest of x W y over the regions [g, n, d] of a gallery row: not symmetric."""
    return jnp.einsum("qd,de,gne->qgn", queries, weight, gallery, precision="highest").max(-1)


@pytest.mark.parametrize("method", ["csls", "nnn", "isf", "dynamic_isf"])
def test_of_a_function_of_pairs(method):
    weight, regions = rng.standard_normal((6, 4), np.float32) / 10, rng.standard_normal((17, 5, 4), np.float32)
    queries, bank = QUERIES[:, 0], BANK[:, 0]
    s, sb = (np.einsum("qd,de,gne->qgn", x, weight, regions).max(-1) for x in (queries, bank))
    fitted = check(method, queries, regions, bank, Pair(bilinear, weight), corrected(method, s, sb.T))
    copy = nearest(queries, regions, 2, Pair(bilinear, weight.copy()), correction=fitted)
    np.testing.assert_array_equal(copy.ids, nearest(queries, regions, 2, Pair(bilinear, weight), correction=fitted).ids)
    with pytest.raises(UserError, match=r"is for Pair\(bilinear\) scores, the search is by Pair\(bilinear\)"):
        nearest(queries, regions, 2, Pair(bilinear, weight + 1), correction=fitted)


def test_certified_statistics_are_those_of_the_greatest_score():
    plain, proved = (hubness.fit("csls", QUERIES, GALLERY, BANK, precision=p) for p in ("highest", "certified"))
    np.testing.assert_allclose(plain.gallery[0], proved.gallery[0], rtol=1e-5)


def test_what_is_refused():
    fit = inspect.unwrap(hubness.fit)
    with pytest.raises(UserError, match="nicdm is for euclidean scores, not for a Pair: expected csls or nnn or isf"):
        fit("nicdm", QUERIES[:, 0], GALLERY, BANK[:, 0], score=Pair(bilinear, np.ones((6, 6), np.float32)))
    for method in ("dsl", "mp_empirical"):
        with pytest.raises(UserError, match=f"{method} is for one vector per query"):
            fit(method, QUERIES, GALLERY, BANK, score=Score("euclidean", 3, 2))
    for method in ("csls", "nnn"):
        with pytest.raises(UserError, match=r"mean of the best 2 of 3 vectors\) with precision='certified'"):
            fit(method, QUERIES, GALLERY, BANK, score=Score("cosine", 3, 2), precision="certified")
    fitted = fit("csls", QUERIES, GALLERY, BANK, score=Score("cosine", 3, 2))
    assert fitted.score == Score("cosine", 3, 2)
    with pytest.raises(UserError, match=r"for cosine \(mean of the best 2 of 3 .* the search is by cosine"):
        nearest(QUERIES, GALLERY, 2, "cosine", correction=fitted)
