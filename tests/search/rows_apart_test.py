"""Rows far from all others: they may not cost the others their precision."""

import inspect

import jax
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.mesh import data_mesh
from demjax.search import nearest, ranks

RNG = np.random.default_rng(0)
QUERIES, GALLERY = RNG.standard_normal((60, 32), np.float32), RNG.standard_normal((500, 32), np.float32)


plain = inspect.unwrap(nearest)  # as outside pytest, types unchecked


def brute(queries, gallery, k):
    d2 = ((queries[:, None].astype(np.float64) - gallery[None].astype(np.float64)) ** 2).sum(axis=-1)
    return np.argsort(d2, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("precision", ["highest", "certified"])
@pytest.mark.parametrize("size", [1e6, 1e18])
@pytest.mark.parametrize("row", [0, 7])
def test_one_huge_gallery_row(size, row, precision):
    """It is in the sample that the centre is taken from, or it is not: both must be right."""
    gallery = GALLERY.copy()
    gallery[row] *= size
    found = nearest(QUERIES, gallery, 5, precision=precision)
    np.testing.assert_array_equal(found.ids, brute(QUERIES, gallery, 5))


@pytest.mark.parametrize("size", [1e6, 1e18])
def test_one_huge_query(size):
    queries = QUERIES.copy()
    queries[0] *= size
    found = nearest(queries, GALLERY, 5)
    np.testing.assert_array_equal(found.ids[1:], brute(queries[1:], GALLERY, 5))
    expected = np.sqrt(((queries[1:, None].astype(float) - GALLERY[found.ids[1:]]) ** 2).sum(-1))
    np.testing.assert_allclose(-found.scores[1:], expected, rtol=1e-4)


def test_ranks_beside_a_huge_row():
    gallery = GALLERY.copy()
    gallery[0] *= 1e6
    first = brute(QUERIES, gallery, 1)
    np.testing.assert_array_equal(ranks(QUERIES, gallery, first), 1)


@pytest.mark.parametrize("k", [2.0, 2.5, "3", True, None])
def test_k_is_a_whole_number(k):
    """2.0 is refused before it is a key of a cache of compiled programs, where it would stand for 2."""
    with pytest.raises(UserError, match="expected a whole number"):
        plain(QUERIES, GALLERY, k)
    assert plain(QUERIES, GALLERY, np.int64(2)).ids.shape == (60, 2)


def test_lists_and_foreign_meshes():
    with pytest.raises(UserError, match="gallery are a list"):
        plain(QUERIES, [[1.0]], 1)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("model",))
    with pytest.raises(UserError, match="expected one, 'data'"):
        nearest(QUERIES, GALLERY, 1, mesh=mesh)


@pytest.mark.parametrize("precision", ["highest", "certified"])
def test_arrays_that_are_sharded_already(precision):
    mesh = data_mesh(jax.devices()[:4])
    by_rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    queries, gallery = (jax.device_put(x, by_rows) for x in (QUERIES, GALLERY))
    found = nearest(queries, gallery, 5, mesh=mesh, precision=precision)
    np.testing.assert_array_equal(found.ids, brute(QUERIES, GALLERY, 5))


def test_many_duplicates_are_proved():
    """5,000 equal rows are too many candidates for a bound: float64 decides, and sorts only what ties."""
    gallery = np.concatenate([np.zeros((5000, 32), np.float32), GALLERY])
    found = nearest(QUERIES / 100, gallery, 3, precision="certified")
    np.testing.assert_array_equal(found.ids, brute(QUERIES / 100, gallery, 3))
