"""Columns whose rows stand elsewhere, against plain NumPy indexing; deferred rows."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demjax.data import Indexed, open_npy
from demjax.data.lazy_rows import EMPTY, Deferred, read_rows


def plain(source, ids):
    """The whole column as an array."""
    return np.concatenate([source[np.array(ids, int)], np.zeros((1, *source.shape[1:]), source.dtype)])


@st.composite
def columns(draw):
    shape = draw(st.sampled_from([(1,), (3, 2), (9, 2), (50, 1), (7, 2, 3)]))
    source = np.arange(1, 1 + int(np.prod(shape)), dtype=draw(st.sampled_from([np.float32, np.int32, np.float64])))
    runs = draw(st.lists(st.tuples(st.integers(0, shape[0] - 1), st.integers(1, 12)), max_size=6))
    ids = [i for first, n in runs for i in range(first, min(first + n, shape[0]))]
    return source.reshape(shape), ids


@settings(deadline=None, max_examples=200)
@given(columns(), st.data())
def test_any_indexing_is_that_of_the_whole_column(column, data):
    source, ids = column
    lazy, whole = Indexed(source, np.array(ids, int)), plain(source, ids)
    n = len(whole)
    assert lazy.shape == whole.shape and lazy.dtype == whole.dtype and len(lazy) == n and lazy.ndim == whole.ndim
    np.testing.assert_array_equal(np.asarray(lazy), whole)
    limits = st.one_of(st.none(), st.integers(-n - 2, n + 2))
    part = slice(data.draw(limits), data.draw(limits), data.draw(st.sampled_from([None, 1, 2, -1, -3])))
    places = np.array(data.draw(st.lists(st.integers(-n, n - 1), max_size=12)), int)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    for at in (part, places, mask, np.resize(places, (2, 3)) if len(places) else places, n - 1, -1, 0):
        np.testing.assert_array_equal(lazy[at], whole[at])
        assert lazy[at].dtype == whole[at].dtype


@settings(deadline=None, max_examples=200)
@given(columns())
def test_compact_places_each_row_of_the_source_once(column):
    source, ids = column
    lazy, whole = Indexed(source, np.array(ids, int)), plain(source, ids)
    rows, places = lazy.compact()
    assert isinstance(rows, Indexed) and rows.ids.tolist() == sorted(set(ids)) and not rows.repeats
    assert places.dtype == np.int32 and places.shape == (len(whole),) and places[-1] == len(rows) - 1
    np.testing.assert_array_equal(np.asarray(rows)[places], whole)
    assert lazy.repeats == (len(set(ids)) < len(ids))
    placed = np.asarray(rows).nbytes + (places.nbytes if lazy.repeats else 0)
    assert lazy.nbytes == placed


def test_bytes_by_hand():
    """Five captions of two images: three rows of 8 bytes with the empty one, six numbers of 4."""
    source = np.zeros((10, 2), np.float32)
    assert Indexed(source, np.array([7, 7, 3, 7, 3])).nbytes == 3 * 8 + 6 * 4
    assert Indexed(source, np.array([7, 3])).nbytes == 3 * 8


@pytest.mark.parametrize("ids", [[-1], [3], [0.5], [[0]]])
def test_ids_that_are_no_rows_of_the_source(ids):
    with pytest.raises(ValueError, match="expected"):
        Indexed(np.zeros((3, 1)), np.array(ids))


@pytest.mark.parametrize("places", [[3], [-4], 3, np.ones(2, bool)])
def test_places_outside_the_column(places):
    with pytest.raises(IndexError):
        Indexed(np.zeros((5, 1)), np.array([4, 4]))[np.asarray(places)]


def test_only_what_is_named_is_read(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(40, dtype=np.float32).reshape(20, 2))
    column = Indexed(open_npy(tmp_path / "x.npy"), np.array([19, 0, 19]))
    assert column[np.array([1, 3, 2])].tolist() == [[0, 1], [0, 0], [38, 39]]
    assert type(column[:2]) is np.ndarray
    os.truncate(tmp_path / "x.npy", 200)
    with pytest.raises(OSError, match="was cut short while it was in use"):
        column[:1]


def test_rows_of_zeros_among_others():
    source = np.arange(1.0, 11.0).reshape(5, 2)
    ids = np.array([0, 1, 2, 3, EMPTY, 4, EMPTY, EMPTY])
    assert read_rows(source, ids).tolist() == [*source[:4].tolist(), [0, 0], [9, 10], [0, 0], [0, 0]]


def test_deferred_rows_are_made_once_when_they_are_asked_for():
    calls = []

    def make(stop_point):
        calls.append(1)
        stop_point()
        return np.ones((2, 3), np.float32)

    rows = Deferred((3, 3), make)
    assert rows.shape == (3, 3) and len(rows) == 3 and rows.nbytes == 36 and not calls
    stops = []
    rows.made(lambda: stops.append(1))
    assert rows[np.array([2, 0])].tolist() == [[0, 0, 0], [1, 1, 1]] and np.asarray(rows).sum() == 6
    assert len(calls) == len(stops) == 1
