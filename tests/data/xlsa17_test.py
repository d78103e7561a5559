"""Files in the xlsa17 layout: what is read, and one clear line for everything that is wrong."""

import h5py
import numpy as np
import pytest

from demjax.data import xlsa17


def read(folder, semantics="att", features="res101"):
    files = xlsa17.find([folder], "TOY", features, semantics)
    return xlsa17.read("TOY", files)


def test_both_versions_of_matlab_files_read_the_same(toy, save, tmp_path):
    dataset = read(toy.write(tmp_path, save))
    np.testing.assert_array_equal(dataset.features, toy.images["features"].T.astype(np.float32))
    np.testing.assert_array_equal(dataset.labels, np.arange(30) % 6)
    np.testing.assert_array_equal(dataset.semantics, toy.table["att"].T.astype(np.float32))
    assert dataset.classes == tuple(toy.table["allclasses_names"].ravel())
    assert dataset.features.dtype == np.float32 and dataset.labels.dtype == np.int64
    assert dataset.seen.tolist() == [0, 1, 3, 4] and dataset.unseen.tolist() == [2, 5]


@pytest.mark.parametrize("version", ["ps1", "ps2"])
def test_split_versions_are_recognised_and_both_are_clean(new_toy, version, tmp_path):
    dataset = read(new_toy(version).write(tmp_path))
    assert dataset.version == version
    train, val, test = (set(dataset.splits[k].tolist()) for k in ("train", "val", "test_seen"))
    assert train | val == set(dataset.splits["trainval"].tolist())
    assert not train & val and not (train | val) & test
    assert set(dataset.labels[sorted(val)]) == {4}


def test_named_semantics(toy, tmp_path):
    folder = toy.write(tmp_path)
    toy.table["att"] = np.ones((2, 6))
    toy.write(tmp_path, semantics="sent")
    assert read(folder, "original_att").semantics.max() > 1
    assert read(folder, "sent").semantics.shape == (6, 2)
    assert read(folder, "sent").sources["semantics"] == "sent_splits.mat:att"


def test_missing_folds_are_rebuilt_from_lists_or_by_hash(toy, tmp_path):
    for key in ("train_loc", "val_loc"):
        del toy.table[key]
    by_hash = read(toy.write(tmp_path / "a"))
    assert by_hash.version == "rebuilt" and len(np.unique(by_hash.labels[by_hash.splits["val"]])) == 1
    folder = toy.write(tmp_path / "b")
    (folder / "valclasses1.txt").write_text("antelope\nbeaver\n")
    listed = read(folder)
    assert set(listed.labels[listed.splits["val"]]) == {0, 3}
    assert set(listed.labels[listed.splits["train"]]) == {1, 4}


def test_names_from_the_text_list_or_numbers(toy, tmp_path):
    del toy.table["allclasses_names"]
    folder = toy.write(tmp_path)
    assert read(folder).classes[0] == "class_001"
    (folder / "allclasses.txt").write_text("a\nb\nc\nd\ne\nf\n")
    assert read(folder).classes == tuple("abcdef")
    (folder / "allclasses.txt").write_text("")
    from demjax.checks import UserError

    with pytest.raises(UserError, match="6 columns but allclasses.txt has 0 names"):
        read(folder)


def test_images_in_no_list_are_left_out(toy, tmp_path):
    toy.table["test_seen_loc"] = toy.table["test_seen_loc"][1:]
    toy.table["train_loc"] = np.intersect1d(toy.table["train_loc"], toy.table["trainval_loc"])[:, None]
    dataset = read(toy.write(tmp_path))
    assert len(dataset.labels) == 29
    kept = [i for i in range(30) if i != 24]
    np.testing.assert_array_equal(dataset.features, toy.images["features"].T[kept].astype(np.float32))


# --- bad input: toy is changed, written, and must be refused in one line that names the culprit -------------


def nan_in_row_7(toy):
    toy.images["features"][2, 7] = np.nan


def inf_in_row_7(toy):
    toy.images["features"][2, 7] = -np.inf


def label_beyond_the_table(toy):
    toy.images["labels"][3] = 7


def label_zero(toy):
    toy.images["labels"][3] = 0


def fractional_label(toy):
    toy.images["labels"][3] = 1.5


def zero_based_locations(toy):
    toy.table["trainval_loc"] = (toy.table["trainval_loc"] - 1).astype(np.uint16)


def location_beyond_the_images(toy):
    toy.table["test_unseen_loc"][0] = 31


def seen_and_unseen(toy):
    toy.images["labels"][2] = 1  # image 3 is test_unseen; class 1 is seen


def unseen_class_without_images(toy):
    toy.images["labels"][toy.images["labels"] == 6] = 3


def other_class_count(toy):
    toy.table["att"] = toy.table["att"][:, :5]


def doubled_names(toy):
    toy.table["allclasses_names"][1, 0] = "antelope"


def half_precision(toy):
    toy.images["features"] = toy.images["features"].astype(np.float16)


def whole_numbers(toy):
    toy.images["features"] = (100 * toy.images["features"]).astype(np.int32)


def transposed_features(toy):
    toy.images["features"] = toy.images["features"].T.copy()


def transposed_table(toy):
    toy.table["att"] = toy.table["att"].T.copy()


def no_features(toy):
    toy.images["feature"] = toy.images.pop("features")


def no_trainval(toy):
    del toy.table["trainval_loc"]


def image_twice(toy):
    toy.table["trainval_loc"][1] = toy.table["trainval_loc"][0]


def image_in_train_and_test(toy):
    toy.table["test_seen_loc"][0] = toy.table["trainval_loc"][0]


def nan_in_attributes(toy):
    toy.table["att"][0, 3] = np.nan


def more_labels_than_images(toy):
    toy.images["labels"] = np.ones((31, 1))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (nan_in_row_7, ("image 7 (0-based row)", "NaN or Inf")),
        (inf_in_row_7, ("image 7 (0-based row)", "NaN or Inf")),
        (label_beyond_the_table, ("res101.mat", "label 7 of image 4", "expected 1 to 6")),
        (label_zero, ("label 0 of image 4", "1-based")),
        (fractional_label, ("'labels'", "not whole numbers")),
        (zero_based_locations, ("trainval_loc holds 0", "they look 0-based")),
        (location_beyond_the_images, ("test_unseen_loc holds 31", "1 to 30")),
        (seen_and_unseen, ("both seen and unseen", "antelope")),
        (unseen_class_without_images, ("classes without images: persian+cat",)),
        (other_class_count, ("5 columns", "6 names")),
        (doubled_names, ("stand twice: antelope",)),
        (whole_numbers, ("int32", "expected float32 or float64")),
        (transposed_features, ("(30, 4)", "they are transposed")),
        (transposed_table, ("3 columns", "6 names", "transpose")),
        (no_features, ("has no 'features'", "did you mean 'feature'")),
        (no_trainval, ("has no 'trainval_loc'",)),
        (image_twice, ("trainval lists image 0", "twice")),
        (image_in_train_and_test, ("in both trainval and test_seen",)),
        (nan_in_attributes, ("class 'beaver'", "NaN or Inf")),
        (more_labels_than_images, ("(4, 30)", "31 images")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_files(toy, save, tmp_path, refused, spoil, told):
    spoil(toy)
    folder = toy.write(tmp_path, save)
    before = {p: p.read_bytes() for p in folder.iterdir()}
    with refused(*told):
        read(folder)
    assert before == {p: p.read_bytes() for p in folder.iterdir()}


def test_half_precision_is_refused(toy, tmp_path, refused, save_v73):
    half_precision(toy)  # MATLAB 5 files cannot hold it
    with refused("res101.mat", "float16", "expected float32 or float64"):
        read(toy.write(tmp_path, save_v73))


def test_zero_does_not_wrap_to_65535(toy, tmp_path, refused):
    """0 - 1 in uint16 is 65535: an image number that large set would even have."""
    assert np.array([0], np.uint16) - np.uint16(1) == 65535
    zero_based_locations(toy)
    toy.images["features"], toy.images["labels"] = np.ones((1, 65536)), np.ones((65536, 1))
    with refused("trainval_loc holds 0"):
        read(toy.write(tmp_path))


def test_truncated_and_alien_files(toy, tmp_path, save, refused):
    folder = toy.write(tmp_path, save)
    whole = (folder / "res101.mat").read_bytes()
    for content in (whole[: len(whole) // 2], b"<html>not found</html>" * 20, b""):
        (folder / "res101.mat").write_bytes(content)
        with refused("res101.mat", "cannot be read as a MATLAB file"):
            read(folder)


def test_a_struct_where_an_array_should_be(toy, tmp_path, refused, save_v73):
    folder = toy.write(tmp_path, save_v73)
    with h5py.File(folder / "res101.mat", "r+") as file:
        del file["features"]
        file.create_group("features")
    with refused("res101.mat", "features", "struct or group"):
        read(folder)


def test_unknown_semantics_list_what_is_there(toy, tmp_path, refused):
    folder = toy.write(tmp_path)
    toy.write(tmp_path, semantics="sent")
    with refused("'sents'", "sents_splits.mat", "att, sent"):
        xlsa17.find([folder], "TOY", "res101", "sents")


def test_folders_are_searched_in_order(toy, tmp_path):
    deep = toy.write(tmp_path / "xlsa17" / "data" / "TOY")
    assert xlsa17.find([tmp_path], "TOY", "res101", "att").features == deep / "res101.mat"
    near = toy.write(tmp_path / "TOY")
    assert xlsa17.find([tmp_path], "TOY", "res101", "att").features == near / "res101.mat"
    assert xlsa17.find([tmp_path], "TOY", "vgg19", "att") is None


def test_the_digest_of_files_sees_every_byte(toy, tmp_path):
    files = xlsa17.find([toy.write(tmp_path)], "TOY", "res101", "att")
    before = files.digest()
    content = bytearray(files.features.read_bytes())
    content[-1] ^= 1
    files.features.write_bytes(content)
    assert files.digest() != before
