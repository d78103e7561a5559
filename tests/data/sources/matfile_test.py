import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import io, sparse

from demjax.checks import UserError
from demjax.data.sources.matfile import mat_keys, read_mat


def test_both_versions_read_what_was_written(tmp_path, toy, save):
    save(tmp_path / "x.mat", toy.table)
    found = read_mat(tmp_path / "x.mat", toy.table)
    assert set(found) == set(toy.table)
    for key, value in toy.table.items():
        assert found[key].shape == value.shape, key
        assert found[key].dtype == value.dtype, key
        np.testing.assert_array_equal(found[key], value, err_msg=key)


@settings(deadline=None, max_examples=25)
@given(
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.uint16, np.int32]),
        hnp.array_shapes(min_dims=2, max_dims=3),
        unique=True,
    )
)
def test_versions_agree_on_any_array(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("any")
    io.savemat(folder / "5.mat", {"x": value})
    with h5py.File(folder / "73.mat", "w", userblock_size=512) as file:
        file["x"] = value.T
    five, seven = (read_mat(folder / name, ["x"])["x"] for name in ("5.mat", "73.mat"))
    assert five.dtype == seven.dtype == value.dtype
    np.testing.assert_array_equal(five, value)
    np.testing.assert_array_equal(seven, value)


def test_the_v73_file_is_one_by_its_bytes(tmp_path, toy, save_v73):
    """Else the tests above would compare a version with itself."""
    save_v73(tmp_path / "x.mat", toy.images)
    head = (tmp_path / "x.mat").read_bytes()[:520]
    assert head.startswith(b"MATLAB 7.3") and head[512:].startswith(b"\x89HDF")


def test_accents_in_cells(tmp_path, save):
    names = np.array(["Übung", "naïve", "câu đố"], object)[:, None]
    save(tmp_path / "x.mat", {"names": names})
    assert read_mat(tmp_path / "x.mat", ["names"])["names"].ravel().tolist() == ["Übung", "naïve", "câu đố"]


def test_only_what_is_wanted_is_read(tmp_path, toy, save):
    save(tmp_path / "x.mat", toy.table)
    assert set(read_mat(tmp_path / "x.mat", ["att"], ["val_loc", "nothing"])) == {"att", "val_loc"}
    assert set(mat_keys(tmp_path / "x.mat")) == set(toy.table)


def test_missing_file(tmp_path, refused):
    with refused(tmp_path / "res101.mat", "no such file", "--config.data.dir"):
        read_mat(tmp_path / "res101.mat", ["features"])


def test_folder_instead_of_file(tmp_path, refused):
    with refused(tmp_path, "no such file"):
        read_mat(tmp_path, ["features"])


def test_missing_key(tmp_path, toy, save, refused):
    save(tmp_path / "x.mat", {"feature": toy.images["features"]})
    with refused(tmp_path / "x.mat", "no 'features'", "did you mean 'feature'?"):
        read_mat(tmp_path / "x.mat", ["features"])


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\0" * 400, b"PK\x03\x04" + b"zip" * 300, b"line one\nline two\n" * 90]
)
def test_not_a_mat_file(tmp_path, refused, content):
    (tmp_path / "x.mat").write_bytes(content)
    with refused(tmp_path / "x.mat"):
        read_mat(tmp_path / "x.mat", ["features"])


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, 0.999])
def test_cut_short(tmp_path, toy, save, refused, share):
    path = tmp_path / "x.mat"
    save(path, toy.images)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with refused(path):
        read_mat(path, ["features", "labels"])


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.data())
def test_flipped_bytes_give_a_user_error_or_arrays(tmp_path_factory, new_toy, writers, data):
    """Never another exception: nobody should read a traceback out of h5py's or scipy's insides."""
    path = tmp_path_factory.mktemp("flip") / "x.mat"
    data.draw(st.sampled_from(writers))(path, new_toy().images)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = read_mat(path, ["features", "labels"])
    except UserError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert all(isinstance(v, np.ndarray) for v in found.values())


def test_struct_in_hdf5_is_named(tmp_path, refused):
    with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as file:
        file.create_group("att")["field"] = np.zeros(3)
    with refused(tmp_path / "x.mat", "att", "struct"):
        read_mat(tmp_path / "x.mat", ["att"])


def test_sparse_matrix_is_refused_by_name(tmp_path, refused):
    io.savemat(tmp_path / "x.mat", {"att": sparse.csc_matrix(np.eye(3))})
    with refused("att", "sparse"):
        read_mat(tmp_path / "x.mat", ["att"])
