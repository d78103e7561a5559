import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from demjax.checks import UserError
from demjax.search import SCORES, nearest, operands

from . import oracle

ALL_SCORES = sorted(SCORES)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([1, 5]),
    st.sampled_from([1, 2, 13]),
    st.sampled_from([1, 4]),
    st.sampled_from(ALL_SCORES),
    st.data(),
)
def test_equals_brute_force_with_ties(n_queries, n_gallery, d, score, data):
    # Small whole numbers: sums are exact in float32, so equal distances are exactly equal.
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    queries, gallery = (rng.integers(-2, 3, (n, d)).astype(np.float32) for n in (n_queries, n_gallery))
    k = data.draw(st.sampled_from([1, len(gallery)]))
    ids, scores = oracle.nearest(queries, gallery, k, score)
    found = nearest(jnp.array(queries), jnp.array(gallery), k, score)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    if score != "cosine":  # 1/sqrt(2) and the like round: cosine ties are compared by value only
        np.testing.assert_array_equal(found.ids, ids)


@pytest.mark.parametrize("score", ALL_SCORES)
def test_any_number_of_devices_tiles_and_shapes(score, mesh, small_tiles):
    """70 queries and 300 rows divide nothing; the second case has fewer query tiles than devices."""
    queries, gallery = normal(70, 8), normal(300, 8, seed=1)
    gallery[100:110] = gallery[7]  # duplicates in another tile
    for n, k in ((70, 5), (3, 150), (1, 300)):
        ids, scores = oracle.nearest(queries[:n], gallery, k, score)
        found = nearest(queries[:n], gallery, k, score, mesh)
        np.testing.assert_array_equal(found.ids, ids)
        np.testing.assert_allclose(found.scores, scores, atol=2e-6)


@pytest.mark.parametrize("score", ALL_SCORES)
def test_bit_for_bit_the_same_on_any_mesh(score, any_mesh):
    queries, gallery = normal(1100, 24), normal(1500, 24, seed=1)
    one, many = nearest(queries, gallery, 7, score), nearest(queries, gallery, 7, score, any_mesh)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("score", ALL_SCORES)
def test_several_vectors_per_query(score, mesh, small_tiles):
    queries, gallery = normal(21, 3, 6), normal(140, 6, seed=1)
    queries[:, 1] *= 3  # of different lengths: |q|^2 matters between them
    ids, scores = oracle.nearest(queries, gallery, 4, score)
    for precision in ("highest", "certified"):
        found = nearest(queries, gallery, 4, score, mesh, precision)
        np.testing.assert_array_equal(found.ids, ids)
        np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["highest", "certified"])
def test_no_row_is_its_own_neighbour(precision, mesh, small_tiles):
    x = normal(150, 5)
    x[3] = x[140]  # a duplicate is a neighbour, oneself is not
    ids, _ = oracle.nearest(x, x, 149, "euclidean", exclude_self=True)
    for k in (2, 149):
        found = nearest(x, x, k, mesh=mesh, precision=precision, exclude_self=True)
        np.testing.assert_array_equal(found.ids, ids[:, :k])


def test_faiss_and_scikit_learn_agree():
    faiss = pytest.importorskip("faiss")
    queries, gallery = normal(200, 32), normal(3000, 32, seed=1)
    flat = faiss.IndexFlatL2(32)
    flat.add(gallery)
    found = nearest(queries, gallery, 10)
    np.testing.assert_array_equal(found.ids, flat.search(queries, 10)[1])
    peer = NearestNeighbors(n_neighbors=10, algorithm="brute", metric="cosine").fit(gallery)
    np.testing.assert_array_equal(nearest(queries, gallery, 10, "cosine").ids, peer.kneighbors(queries)[1])
    inner = faiss.IndexFlatIP(32)
    inner.add(gallery)
    np.testing.assert_array_equal(nearest(queries, gallery, 10, "dot").ids, inner.search(queries, 10)[1])


def test_minus_zero_ties_with_zero():
    found = nearest(jnp.zeros((1, 1)), jnp.array([[-1.0], [1.0]]), 2, "dot")
    assert found.ids.tolist() == [[0, 1]]


def test_a_common_offset_does_not_matter():
    """Without centring, float32 gives wrong neighbours here (specs: 20 % at an offset of 50)."""
    gallery = 50 + 0.01 * normal(200, 64)
    queries = gallery[np.random.default_rng(0).integers(0, 200, 300)] + 0.01 * normal(300, 64, seed=1)
    found = nearest(queries, gallery, 1)
    np.testing.assert_array_equal(found.ids, oracle.nearest(queries, gallery, 1, "euclidean")[0])


@pytest.mark.parametrize("score", ALL_SCORES)
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_very_small_and_very_large_numbers(score, size):
    queries, gallery = normal(20, 6) * np.float32(size), normal(40, 6, seed=1) * np.float32(size)
    found = nearest(queries, gallery, 3, score)
    np.testing.assert_array_equal(found.ids, oracle.nearest(queries, gallery, 3, score)[0])
    if score != "dot":  # 1e60 is no float32
        np.testing.assert_allclose(found.scores, oracle.nearest(queries, gallery, 3, score)[1], rtol=1e-4)


def test_precision_is_highest_whatever_the_default():
    """A reported number must not depend on JAX's default precision, which rounds on GPUs and TPUs."""
    with jax.default_matmul_precision("bfloat16"):
        jaxpr = str(jax.make_jaxpr(lambda q, g: operands.product(q, g))(jnp.ones((3, 4)), jnp.ones((5, 4))))
    products = [line for line in jaxpr.split("\n") if "precision" in line]
    assert products and all("HIGHEST" in line for line in products)


def test_zero_vector_has_cosine_zero():
    found = nearest(jnp.zeros((1, 3)), jnp.array([[1.0, 0, 0], [0, 0, 0]]), 2, "cosine")
    assert found.ids.tolist() == [[0, 1]] and found.scores.tolist() == [[0, 0]]


def test_distance_to_itself_is_zero_not_nan():
    x = normal(50, 300)
    found = nearest(x, x, 1)
    assert found.ids[:, 0].tolist() == list(range(50))
    assert np.isfinite(found.scores).all() and float(np.abs(found.scores).max()) < 0.05
    assert nearest(x, x, 1, precision="certified").scores.tolist() == [[0.0]] * 50


def test_a_correction_changes_the_search(mesh, small_tiles):
    """Scores minus a penalty per gallery row and times a factor per query, tile by tile."""
    queries, gallery, penalty = normal(40, 4), normal(200, 4, seed=1), np.abs(normal(200, seed=2))
    factor = np.arange(1, 41, dtype=np.float32)
    found = nearest(queries, gallery, 5, "euclidean", mesh, correction=(penalised, (factor,), (penalty,), "euclidean"))
    every = oracle.scores(queries, gallery, "euclidean") * factor[:, None] - penalty[None]
    np.testing.assert_array_equal(found.ids, np.argsort(-every, axis=1)[:, :5])
    np.testing.assert_allclose(found.scores, -np.sort(-every, axis=1)[:, :5], rtol=1e-4)


def penalised(scores, query_fields, gallery_fields):
    return scores * query_fields[0][:, None] - gallery_fields[0][None]


def test_memory_maps_are_read_in_blocks(tmp_path, mesh, small_tiles, monkeypatch):
    queries, gallery = normal(30, 8), normal(2200, 8, seed=1)
    for name, x in (("q", queries), ("g", gallery)):
        np.save(tmp_path / f"{name}.npy", x)
    read = []

    class Watched(np.memmap):
        def __getitem__(self, key):
            part = super().__getitem__(key)
            if isinstance(part, np.ndarray):
                read.append(part.nbytes)
            return part

    maps = [np.load(tmp_path / f"{n}.npy", mmap_mode="r").view(Watched) for n in "qg"]
    monkeypatch.setattr("demjax.search.inputs.SURVEY_ROWS", 64)
    for precision in ("highest", "certified"):
        found = nearest(*maps, 5, mesh=mesh, precision=precision)
        assert isinstance(found.ids, np.ndarray)
        np.testing.assert_array_equal(found.ids, oracle.nearest(queries, gallery, 5, "euclidean")[0])
    assert read and max(read) < gallery.nbytes


def test_progress_tells_how_far_it_is(capfd, monkeypatch, small_tiles):
    monkeypatch.setattr("demjax.progress.QUIET_SECONDS", 0.0)
    nearest(normal(40, 4), normal(300, 4), 1, progress=True)
    told = capfd.readouterr().err
    assert "searching" in told and "eta" in told


BAD = [
    ((2, 3), (4, 5), 1, "dot", "expected .q, d. or .q, m, d. and .g, d. with one width d"),
    ((2, 3), (3,), 1, "dot", "expected .q, d."),
    ((2, 3), (4, 3), 0, "dot", "k = 0 of 4 gallery rows: expected a whole number, 1 <= k <= 4"),
    ((2, 3), (4, 3), 5, "dot", "k = 5 of 4"),
    ((0, 3), (4, 3), 1, "dot", "at least one query"),
    ((2, 3), (0, 3), 1, "dot", "at least one query, one gallery row"),
    ((2, 0), (4, 0), 1, "dot", "one column"),
    ((2, 0, 3), (4, 3), 1, "dot", "at least one query"),
    ((2, 3), (4, 3), 1, "euclid", "did you mean 'euclidean'"),
]
plain = inspect.unwrap(nearest)  # as outside pytest, shapes unchecked


@pytest.mark.parametrize(("queries", "gallery", "k", "score", "told"), BAD)
@pytest.mark.parametrize("array", [np.ones, jnp.ones])
def test_bad_input(queries, gallery, k, score, told, array):
    with pytest.raises(UserError, match=told):
        plain(array(queries, np.float32), array(gallery, np.float32), k, score)


@pytest.mark.parametrize("dtype", ["int32", "float16", "float64", "bool", "complex64", "uint8"])
def test_other_types_are_named(dtype):
    with pytest.raises(UserError, match=rf"queries are {dtype}: expected float32; convert with x.astype"):
        plain(np.ones((2, 3), dtype), np.ones((2, 3), np.float32))
    with pytest.raises(UserError, match=f"gallery are {dtype}"):
        plain(np.ones((2, 3), np.float32), np.ones((2, 3), dtype))


@pytest.mark.parametrize("array", [np.array, jnp.array])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_row_that_is_not_finite_is_named(array, bad, monkeypatch):
    monkeypatch.setattr("demjax.search.inputs.SURVEY_ROWS", 4)
    x = normal(11, 3)
    x[6, 1] = bad
    for q, g, told in ((x, normal(5, 3), "queries row 6"), (normal(5, 3), x, f"gallery row 6 holds {bad}")):
        with pytest.raises(UserError, match=told):
            plain(array(q), array(g))


def test_other_mistakes():
    x = normal(4, 3)
    with pytest.raises(UserError, match="did you mean 'certified'"):
        plain(x, x, precision="certifed")
    with pytest.raises(UserError, match="4 queries and 3 gallery rows: expected one set"):
        plain(x, x[:3], exclude_self=True)
    with pytest.raises(UserError, match="k = 4 of 3 gallery rows beside the query itself"):
        plain(x, x, 4, exclude_self=True)
    with pytest.raises(UserError, match="a correction with precision='certified': expected 'highest'"):
        plain(x, x, precision="certified", correction=(penalised, (), (), "euclidean"))
