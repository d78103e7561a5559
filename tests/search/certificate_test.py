"""`precision="certified"` equals float64 brute force always; and each way to the proof is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demjax.mesh import data_mesh
from demjax.search import SCORES, bound, certificate, nearest
from demjax.search.problem import checked_problem

from . import oracle


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def check(queries, gallery, k, score, mesh=None):
    """Equal ids; returns how many queries took each way."""
    found = certificate.certified(checked_problem(queries, gallery, score, mesh, False, k=k), k)
    ids, scores = oracle.nearest(queries, gallery, k, score)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-12, atol=1e-13 * max(1.0, np.abs(scores).max()))
    np.testing.assert_array_equal(found.ids, ids)
    return found.ways


def near_ties(n, d, seed=0):
    """Rows that differ from one row by a single ulp in a single place, and copies of it."""
    base = normal(1, d, seed=seed)
    rows = np.repeat(base, n, axis=0)
    rng = np.random.default_rng(seed)
    place, up = rng.integers(0, d, n), rng.random(n) < 0.5
    moved = np.nextafter(rows[np.arange(n), place], np.where(up, np.inf, -np.inf).astype(np.float32))
    rows[np.arange(n), place] = np.where(rng.random(n) < 0.8, moved, rows[np.arange(n), place])
    return rows


# All of one shape: compiled once.
QUERIES, ROWS = normal(12, 24, seed=5), normal(300, 24, seed=1)
SPREAD = np.logspace(-12, 12, 300, dtype=np.float32)[:, None]
CASES = {
    "normal": (QUERIES, ROWS),
    "large offset": (1000 + QUERIES, 1000 + ROWS),
    "one ulp apart": (QUERIES, near_ties(300, 24)),
    "queries beside near ties": (near_ties(12, 24, seed=3), near_ties(300, 24, seed=3)),
    "six copies of everything": (QUERIES, np.concatenate([ROWS[:50]] * 6)),
    "a constant gallery": (QUERIES, np.ones_like(ROWS)),
    "zeros": (np.zeros_like(QUERIES), np.zeros_like(ROWS)),
    "one huge row": (QUERIES, np.concatenate([ROWS[:299], np.float32(1e30) * ROWS[299:]])),
    "very small": (np.float32(1e-30) * QUERIES, np.float32(1e-30) * ROWS),
    "rows of very different sizes": (QUERIES * SPREAD[::25], ROWS * SPREAD),
}


@pytest.mark.parametrize("score", sorted(SCORES))
@pytest.mark.parametrize("name", CASES)
def test_equals_float64(name, score):
    if score == "cosine" and name == "queries beside near ties":
        pytest.skip("cosines of one and nearly the same vector differ by less than float64 resolves")
    check(*CASES[name], 5, score)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 5), st.sampled_from([1, 2, 40, 90]), st.integers(0, 999), st.sampled_from(["euclidean", "dot"]))
def test_small_whole_numbers_with_ties(n_queries, n_gallery, seed, score):
    rng = np.random.default_rng(seed)
    queries, gallery = (rng.integers(-2, 3, (n, 4)).astype(np.float32) for n in (n_queries, n_gallery))
    for k in {1, n_gallery}:
        check(queries, gallery, k, score)


def test_any_mesh_and_streamed(mesh, small_tiles):
    queries, gallery = normal(40, 8), normal(400, 8, seed=1)
    gallery[200:300] = gallery[0]
    ways = check(queries, gallery, 3, "euclidean", mesh)
    assert sum(ways.values()) == 40


def test_each_way_is_taken():
    """bfloat16 proves well separated data, float32 what is closer, float64 the rest."""
    apart = check(normal(8, 24), normal(400, 24, seed=1), 3, "euclidean")
    assert apart["bfloat16"] == 8
    close = 1 + 2e-3 * normal(2000, 24, seed=1)  # all cosines are within 1e-5 of each other
    assert check(1 + 2e-3 * normal(8, 24), close, 3, "dot")["bfloat16"] == 8  # once the mean is out, they are not
    line = np.linspace(1, 2, 20_000, dtype=np.float32)[:, None]
    assert check(np.float32([[0]]), line, 3, "euclidean")["float32"] == 1
    assert check(normal(4, 24), np.ones((500, 24), np.float32), 3, "euclidean")["float64"] == 4


def a_tight_cluster():
    """1,000 rows that low precision cannot tell apart, and 1,300 others so that subtracting the mean does not help."""
    point = 3 + normal(1, 48)
    cluster = point + 1e-3 * normal(1000, 48, seed=1)
    return point + 1e-3 * normal(20, 48, seed=2), np.concatenate([cluster, 3 * normal(1300, 48, seed=3)])


def test_float32_is_not_enough_where_certified_is():
    """The tests above can fail: plain float32 is not float64 brute force."""
    queries, gallery = a_tight_cluster()
    check(queries, gallery, 80, "dot")
    assert (nearest(queries, gallery, 80, "dot").ids != oracle.nearest(queries, gallery, 80, "dot")[0]).any()


def too_low(rows, fields, context, **static):
    """A mutant of bound.query_operands: the rounding terms are subtracted."""
    q = bound_queries(rows, fields, context, **static)
    d = rows.shape[-1]
    return q._replace(operands=q.operands.at[:, d + 3 : d + 5].multiply(-1))


bound_queries = bound.query_operands


def test_with_a_lower_bound_for_an_upper_one_the_proof_is_worth_nothing(monkeypatch):
    queries, gallery = a_tight_cluster()
    check(queries, gallery, 5, "euclidean")
    monkeypatch.setattr(bound, "query_operands", too_low)
    with pytest.raises(AssertionError):
        check(queries, gallery, 5, "euclidean")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("score", sorted(SCORES))
@pytest.mark.parametrize("several", [False, True])
def test_the_bound_is_one(dtype, score, several):
    """Every entry of the product is at least the float64 score in the same form, and not far above it."""
    queries, gallery = 3 + normal(50, 2, 33) if several else 3 + normal(50, 33), 3 + normal(70, 33, seed=1)
    problem = checked_problem(queries, gallery, score, data_mesh(jax.devices()[:1]), False)
    context = jax.tree.map(jnp.asarray, certificate._context(problem))
    q = bound.query_operands(jnp.array(queries), (), context, kind=score, dtype=dtype, several=several)
    g = bound.gallery_operands(jnp.array(gallery), (), jnp.ones(70, bool), context, kind=score, dtype=dtype)
    bounds = (np.asarray(q.operands, np.float64) @ np.asarray(g.operands, np.float64).T).reshape(50, -1, 70).max(axis=1)
    x, y = queries.astype(np.float64), gallery.astype(np.float64)
    scales = np.asarray(context.scales, np.float64)
    if score == "cosine":
        x, y = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, y))
        scales = (1.0, 1.0)
    x, y = x * scales[0], y * scales[1]
    if several:
        pairs = -((x[:, :, None] - y) ** 2).sum(-1) / 2 if score == "euclidean" else x @ y.T
        truth = pairs.max(axis=1)
    else:
        a, c = np.asarray(context.q_centre, np.float64), np.asarray(context.g_centre, np.float64)
        truth = x @ (y - c).T
        if score == "euclidean":
            truth = (x - a) @ (y - c).T - ((y - c) ** 2).sum(1) / 2
    assert (bounds >= truth).all()
    loose = {"bfloat16": 0.05, "float16": 0.01, "float32": 0.002}[dtype]
    assert (bounds - truth).max() < loose * (np.abs(x).max() * np.abs(y).max() * 33)


def test_float16_candidates_of_a_gpu_work_too(monkeypatch):
    monkeypatch.setitem(certificate.LOW, "cpu", "float16")
    ways = check(5 * normal(20, 24), 100 * normal(400, 24, seed=1), 3, "euclidean")
    assert ways["float16"] == 20
