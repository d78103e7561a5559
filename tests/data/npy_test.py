import numpy as np
import pytest

from demjax.checks import UserError
from demjax.data import open_npy


def test_opens_without_reading(tmp_path):
    x = np.random.default_rng(0).standard_normal((7, 3), np.float32)
    np.save(tmp_path / "x.npy", x)
    opened = open_npy(tmp_path / "x.npy")
    assert isinstance(opened, np.memmap)
    np.testing.assert_array_equal(opened, x)


class Hostile:
    """Would write a file if anybody unpickled it."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def test_python_objects_are_never_unpickled(tmp_path):
    target = tmp_path / "executed"
    array = np.empty((2, 2), object)
    array[:] = [[Hostile(target)] * 2] * 2
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match="holds Python objects, which demjax never unpickles"):
        open_npy(tmp_path / "x.npy")
    assert not target.exists()


def test_other_files_are_named(tmp_path):
    (tmp_path / "text.npy").write_text("0.1 0.2\n")
    np.savez(tmp_path / "x.npz", np.ones((2, 2), np.float32))
    np.save(tmp_path / "cut.npy", np.ones((100, 4), np.float32))
    whole = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-50])
    (tmp_path / "header.npy").write_bytes(whole[:20])
    (tmp_path / "empty.npy").write_bytes(b"")
    np.save(tmp_path / "half.npy", np.ones((2, 2), np.float16))
    np.save(tmp_path / "ints.npy", np.ones((2, 2), np.int64))
    np.save(tmp_path / "big.npy", np.ones((2, 2), ">f4"))
    np.save(tmp_path / "flat.npy", np.ones(4, np.float32))
    np.save(tmp_path / "none.npy", np.ones((0, 4), np.float32))
    told = {
        "missing.npy": "no such file",
        "text.npy": "not a .npy file",
        "x.npz": "not a .npy file",
        "empty.npy": "not a .npy file",
        "cut.npy": "damaged or cut short",
        "header.npy": "damaged or cut short",
        "half.npy": "float16 .2, 2.: expected float32; convert with numpy.save",
        "ints.npy": "int64",
        "big.npy": ">f4",
        "flat.npy": "shape .4,.: expected rows of vectors",
        "none.npy": "shape .0, 4.",
    }
    for name, message in told.items():
        with pytest.raises(UserError, match=message) as error:
            open_npy(tmp_path / name)
        assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="no such file"):
        open_npy(tmp_path)
