"""Torch7 tensors, written here byte by byte, and hostile ones."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demjax.data.text.t7 import KINDS, read_t7


def string(text):
    return struct.pack("<i", len(text)) + text.encode()


def t7(array, kind="Float", strides=None, offset=1, sizes=None, numbers=None):
    """A file of one tensor, as Torch7 writes it."""
    array = np.asarray(array, KINDS[kind])
    sizes = array.shape if sizes is None else sizes
    strides = [s // array.itemsize for s in array.strides] if strides is None else strides
    head = struct.pack("<ii", 4, 1) + string("V 1") + string(f"torch.{kind}Tensor")
    head += struct.pack(f"<i{len(sizes)}q{len(strides)}qq", len(sizes), *sizes, *strides, offset)
    count = array.size if numbers is None else numbers
    store = struct.pack("<ii", 4, 2) + string("V 1") + string(f"torch.{kind}Storage") + struct.pack("<q", count)
    return head + store + array.tobytes()


def save(tmp_path, content):
    file = tmp_path / "x.t7"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_number(tmp_path, kind):
    array = np.arange(24).reshape(2, 3, 4)
    found = read_t7(save(tmp_path, t7(array, kind)))
    assert found.dtype == np.dtype(KINDS[kind]) and found.tolist() == array.tolist()


def test_strides_and_offset(tmp_path):
    whole = np.arange(12.0)
    found = read_t7(save(tmp_path, t7(whole, strides=(1, 4), offset=2, sizes=(3, 2))))
    assert found.tolist() == [[1, 5], [2, 6], [3, 7]] and found.flags.c_contiguous and found.flags.writeable


def test_the_stride_of_a_single_row_says_nothing(tmp_path):
    assert read_t7(save(tmp_path, t7(np.arange(4.0), sizes=(1,), strides=(1 << 62,)))).tolist() == [0]


def test_an_empty_tensor(tmp_path):
    assert read_t7(save(tmp_path, t7(np.zeros((0,)), sizes=(), strides=()))).shape == (0,)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "4 bytes at 0, where 0 are left"),
        (struct.pack("<ii", 3, 1), "no torch.Tensor"),  # a table
        (struct.pack("<ii", 6, 1) + string("os.execute"), "no torch.Tensor"),  # a function
        (struct.pack("<ii", 4, 1) + string("V 1") + string("nn.Linear"), "an object 'nn.Linear'"),
        (t7(np.arange(4.0))[:-3], "bytes at"),
        (t7(np.arange(4.0), sizes=(1 << 40,), strides=(0,)), "of 4 numbers"),
        (t7(np.arange(4.0), sizes=(5,), strides=(1,)), "of 4 numbers"),
        (t7(np.arange(4.0), strides=(-1,)), "of 4 numbers"),
        (t7(np.arange(4.0), offset=0), "of 4 numbers"),
        (t7(np.arange(4.0), sizes=(-4,)), "a negative size"),
        (t7(np.arange(4.0), sizes=(0, -1), strides=(1, 1)), "a negative size"),
        (t7(np.zeros(0), sizes=(0, 1 << 62, 1 << 62), strides=(1, 1, 1)), "an empty tensor of shape"),
        (t7(np.arange(4.0)) + b"more", "4 bytes behind the tensor"),
        (t7(np.arange(4.0), numbers=1 << 60), "bytes at"),
        (t7(np.arange(4.0), numbers=-1), "-4 bytes"),
        (struct.pack("<ii", 4, 1) + string("V 1") + string("torch.FloatTensor") + struct.pack("<i", 1 << 30), "axes"),
        (struct.pack("<iii", 4, 1, -5), "-5 bytes"),
    ],
)
def test_hostile_files(tmp_path, refused, content, told):
    with refused("x.t7", "expected one tensor of numbers", told):
        read_t7(save(tmp_path, content))


@given(st.binary(max_size=60), st.integers(0, 90))
def test_any_bytes_give_an_array_or_a_clear_error(tmp_path_factory, noise, at):
    good = t7(np.arange(6.0).reshape(2, 3))
    file = save(tmp_path_factory.mktemp("t7"), good[:at] + noise + good[at + len(noise) :])
    try:
        assert read_t7(file).nbytes <= len(good) + 60
    except ValueError as error:
        assert "expected one tensor" in str(error)


def test_no_file(tmp_path, refused):
    with refused("none.t7", "no such file"):
        read_t7(tmp_path / "none.t7")
