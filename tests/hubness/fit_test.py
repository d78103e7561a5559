"""A fitted correction, searched with, equals the published formula written out on full float64 matrices."""

import inspect

import jax
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from demjax import hubness
from demjax.checks import UserError
from demjax.hubness import CORRECTIONS, k_occurrence, k_skewness
from demjax.mesh import data_mesh
from demjax.search import nearest, tiles

rng = np.random.default_rng(0)
QUERIES, GALLERY, BANK = (rng.standard_normal((n, 6), np.float32) for n in (45, 130, 70))


def cosine(x, y):
    x, y = (v.astype(np.float64) / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    return x @ y.T


def distance(x, y):
    return np.sqrt(((x.astype(np.float64)[:, None] - y.astype(np.float64)[None]) ** 2).sum(-1))


def without_self(matrix, one_set):
    """Rows without their diagonal entry."""
    if not one_set:
        return matrix
    return matrix[~np.eye(len(matrix), dtype=bool)].reshape(len(matrix), -1)


def expected(method, q, g, bank, square):
    """Corrected scores [q, g] by the published formulas."""
    own_bank = square and bank is g
    s, sb = cosine(q, g), without_self(cosine(g, bank), own_bank)
    d, db = distance(q, g), without_self(distance(g, bank), own_bank)
    sq, dq = without_self(s, square), without_self(d, square)
    top = lambda m, k: np.sort(m, axis=1)[:, -k:].mean(1)  # noqa: E731
    near = lambda m, k: np.sort(m, axis=1)[:, :k]  # noqa: E731
    if method == "csls":
        return 2 * s - top(sq, 10)[:, None] - top(sb, 10)[None]
    if method == "nnn":
        return s - 0.75 * top(sb, 128)[None]
    soft = 20 * s - logsumexp(20 * sb, axis=1)[None]
    if method == "isf":
        return soft
    if method == "dynamic_isf":
        found = np.argmax(without_diagonal(cosine(bank, g), own_bank), axis=1)
        active = np.isin(np.argmax(without_diagonal(s, square), axis=1), found)
        return np.where(active[:, None], soft, s)
    if method == "local_scaling":
        return -(d**2) / (near(dq, 5)[:, -1:] * near(db, 5)[:, -1][None])
    if method == "nicdm":
        return -d / np.sqrt(near(dq, 5).mean(1)[:, None] * near(db, 5).mean(1)[None])
    if method == "mp_gaussian":
        x = norm.sf(d, dq.mean(1, keepdims=True), dq.std(1, keepdims=True))
        return np.log(x * norm.sf(d, db.mean(1)[None], db.std(1)[None]))
    if method == "mp_empirical":
        x, y = distance(q, bank), distance(g, bank)
        return ((x[:, None] > d[:, :, None]) & (y[None] > d[:, :, None])).mean(-1)
    if method == "gc":
        return s - (cosine(g, bank)[None] > s[:, :, None]).sum(-1)
    if method == "dsl":

        def offset(rows, others, matrix, one_set):
            ids = np.argsort(with_diagonal(matrix, np.inf) if one_set else matrix, axis=1)[:, :5]
            return ((rows - others.astype(np.float64)[ids].mean(1)) ** 2).sum(1)

        return -(d**2) + offset(q, g, d, square)[:, None] + offset(g, bank, distance(g, bank), own_bank)[None]
    raise AssertionError(method)


def with_diagonal(matrix, value):
    matrix = matrix.copy()
    np.fill_diagonal(matrix, value)
    return matrix


def without_diagonal(matrix, one_set):
    return with_diagonal(matrix, -np.inf) if one_set else matrix


@pytest.mark.parametrize("method", sorted(CORRECTIONS))
@pytest.mark.parametrize("square", [False, True])
def test_equals_the_formula(method, square, monkeypatch):
    monkeypatch.setattr(tiles, "QUERY_ROWS", 16)
    monkeypatch.setattr(tiles, "GALLERY_ROWS", 128)
    queries, bank = (GALLERY, GALLERY) if square else (QUERIES, BANK)
    every = without_diagonal(expected(method, queries, GALLERY, bank, square), square)
    mesh = data_mesh(jax.devices()[: 1 if square else 3])
    fitted = hubness.fit(method, queries, GALLERY, None if square else BANK, mesh=mesh, exclude_self=square)
    score, k = CORRECTIONS[method].scores[0], 7
    found = nearest(queries, GALLERY, k, score, mesh, correction=fitted, exclude_self=square)
    best = -np.sort(-every, axis=1)[:, :k]
    np.testing.assert_allclose(found.scores, best, rtol=3e-4, atol=3e-5)
    np.testing.assert_allclose(np.take_along_axis(every, np.asarray(found.ids), axis=1), best, rtol=3e-4, atol=3e-5)


@pytest.mark.parametrize("method", sorted(CORRECTIONS))
def test_bit_for_bit_the_same_on_any_mesh(method):
    results = []
    for devices in (1, 3, 8) if method == "csls" else (1, 3):
        mesh = data_mesh(jax.devices()[:devices])
        fitted = hubness.fit(method, QUERIES, GALLERY, BANK, mesh=mesh)
        results.append(nearest(QUERIES, GALLERY, 5, CORRECTIONS[method].scores[0], mesh, correction=fitted))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].ids, other.ids)
        np.testing.assert_array_equal(results[0].scores, other.scores)


@pytest.mark.parametrize("method", ["csls", "nnn", "isf", "gc", "local_scaling", "mp_gaussian", "dsl"])
def test_corrections_cure_hubs(method):
    """Noise around a point in 100 dimensions has hubs, by angle and by distance."""
    x = 0.5 + np.random.default_rng(1).standard_normal((400, 100), np.float32)
    score = CORRECTIONS[method].scores[0]
    raw = nearest(x, x, 5, score, exclude_self=True).ids
    fitted = hubness.fit(method, x, x, beta=100.0, exclude_self=True)
    ids = nearest(x, x, 5, score, exclude_self=True, correction=fitted).ids
    before, after = (k_skewness(np.asarray(k_occurrence(i, 400))) for i in (raw, ids))
    assert before > 1 and after < 0.7 * before


@pytest.mark.parametrize("method", ["csls", "nnn"])
def test_of_inner_products(method):
    s, bank = (x.astype(np.float64) @ GALLERY.T.astype(np.float64) for x in (QUERIES, BANK))
    r_s = {"csls": np.sort(bank, axis=0)[-10:].mean(axis=0), "nnn": bank.mean(axis=0)}[method]  # a bank of 70 < 128
    every = 2 * s - np.sort(s, axis=1)[:, -10:].mean(axis=1)[:, None] - r_s if method == "csls" else s - 0.75 * r_s
    fitted = hubness.fit(method, QUERIES, GALLERY, BANK, score="dot")
    found = nearest(QUERIES, GALLERY, 5, "dot", correction=fitted)
    np.testing.assert_allclose(found.scores, -np.sort(-every, axis=1)[:, :5], rtol=3e-4, atol=3e-5)
    with pytest.raises(UserError, match="correction is for dot scores, the search is by cosine"):
        nearest(QUERIES, GALLERY, 5, "cosine", correction=fitted)
    with pytest.raises(UserError, match="score is 'dot'"):
        hubness.fit("nicdm", QUERIES, GALLERY, BANK, score="dot")


def test_the_queries_as_their_own_bank():
    for bank in (None, QUERIES):
        fitted = hubness.fit("csls", QUERIES, GALLERY, bank)
        np.testing.assert_allclose(fitted.gallery[0], np.sort(cosine(GALLERY, QUERIES), 1)[:, -10:].mean(1), rtol=1e-5)


def test_bad_input():
    fit = inspect.unwrap(hubness.fit)
    with pytest.raises(UserError, match="correction is 'cls': did you mean 'csls'"):
        fit("cls", QUERIES, GALLERY, BANK)
    with pytest.raises(UserError, match="a bank of 1: expected at least two"):
        fit("csls", QUERIES, GALLERY, BANK[:1])
    with pytest.raises(UserError, match="k of the correction is 0"):
        fit("csls", QUERIES, GALLERY, BANK, k=0)
    with pytest.raises(UserError, match="beta is -1"):
        fit("isf", QUERIES, GALLERY, BANK, beta=-1.0)
    bad = BANK.copy()
    bad[4, 2] = np.nan
    with pytest.raises(UserError, match="row 4 holds nan"):
        fit("mp_gaussian", QUERIES, GALLERY, bad)


def test_a_correction_fits_one_search_only():
    fitted = hubness.fit("mp_gaussian", QUERIES, GALLERY, BANK)
    for queries, gallery, score, told in (
        (QUERIES[:20], GALLERY, "euclidean", "fitted for 45 queries, the search has 20"),
        (QUERIES, GALLERY[:100], "euclidean", "fitted for 130 gallery rows, the search has 100"),
        (QUERIES, GALLERY, "cosine", "the correction is for euclidean scores, the search is by cosine"),
    ):
        with pytest.raises(UserError, match=told):
            nearest(queries, gallery, 3, score, correction=fitted)


def test_a_bank_is_named_in_its_errors():
    bad = BANK.copy()
    bad[3, 1] = np.inf
    for bank, told in ((bad, "bank row 3 holds inf"), (BANK[:, :5], r"bank float32 \(70, 5\): expected .*\[r, 6\]")):
        with pytest.raises(UserError, match=told):
            inspect.unwrap(hubness.fit)("csls", QUERIES, GALLERY, bank)
    with pytest.raises(UserError, match=r"dsl is for one vector per query, expected \[q, d\]; for several: csls, nnn"):
        inspect.unwrap(hubness.fit)("dsl", np.repeat(QUERIES[:, None], 2, axis=1), GALLERY, BANK)
    with pytest.raises(UserError, match=r"bank float32 \(70, 6\): expected float32 \[r, 1, 6\]"):
        inspect.unwrap(hubness.fit)("csls", QUERIES[:, None], GALLERY, BANK)
    for queries, told in ((QUERIES.astype(float), "queries are float64"), (QUERIES[:, None][:, :0], "one query")):
        with pytest.raises(UserError, match=told):
            inspect.unwrap(hubness.fit)("nnn", queries, GALLERY, BANK)
    with pytest.raises(UserError, match="they are no gallery"):
        inspect.unwrap(hubness.fit)("csls", np.repeat(QUERIES[:, None], 2, axis=1), GALLERY, exclude_self=True)
    with pytest.raises(UserError, match="whole number"):
        inspect.unwrap(hubness.fit)("csls", QUERIES, GALLERY, BANK, k=2.5)


def test_certified_statistics_of_duplicates():
    """Eight copies of each row: the fifth distance is 0 and not what rounding leaves of it."""
    copies = np.repeat(GALLERY + 50, 8, axis=0)
    with pytest.raises(UserError, match="is 0: expected > 0"):
        hubness.fit("local_scaling", copies, copies, copies, precision="certified")
    fitted = hubness.fit("local_scaling", copies, copies, copies, k=9, precision="certified")
    near = np.sort(distance(GALLERY + 50, GALLERY + 50), axis=1)[:, 1]
    np.testing.assert_allclose(fitted.gallery[0][::8], near, rtol=1e-5)
