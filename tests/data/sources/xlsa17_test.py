import hashlib
from pathlib import Path

import numpy as np
import pytest

from demjax.data import load
from demjax.data.sources import xlsa17

NAMES = ("antelope", "grizzly+bear", "killer+whale", "beaver", "dalmatian", "persian+cat")


def read(folder, features="res101", semantics="att"):
    return xlsa17.read("TOY", xlsa17.find([folder], "TOY", features, semantics))


def expected_ids():
    """0-based, by the rule of the toy, in loops."""
    ids = {"trainval": [], "test_seen": [], "test_unseen": [], "train": [], "val": []}
    for i in range(30):
        if i % 6 in (2, 5):
            ids["test_unseen"].append(i)
        elif i >= 24:
            ids["test_seen"].append(i)
        else:
            ids["trainval"].append(i)
            ids["val" if i % 6 == 4 else "train"].append(i)
    return ids


@pytest.mark.parametrize("version", ["ps1", "ps2"])
def test_reads_the_toy(tmp_path, new_toy, save, version):
    toy = new_toy(version)
    dataset = read(toy.write(tmp_path, save))
    assert dataset.version == version
    assert {k: v.tolist() for k, v in dataset.splits.items()} == expected_ids()
    assert dataset.labels.tolist() == [i % 6 for i in range(30)]
    assert dataset.classes == NAMES
    assert dataset.features.dtype == dataset.semantics.dtype == np.float32
    for i in range(30):  # columns are images, columns are classes
        np.testing.assert_array_equal(dataset.features[i], toy.images["features"][:, i].astype(np.float32))
    for c in range(6):
        np.testing.assert_array_equal(dataset.semantics[c], toy.table["att"][:, c].astype(np.float32))
    assert dataset.sources == {"features": "res101.mat", "semantics": "att_splits.mat:att"}


def test_names_of_images_where_the_file_has_them(tmp_path, toy, save):
    assert read(toy.write(tmp_path / "bare", save)).images == ()
    toy.images["image_files"] = np.array([f"a/b/image_{i:02d}.jpg" for i in range(30)], object)[:, None]
    dataset = read(toy.write(tmp_path / "named", save))
    assert dataset.images == tuple(f"a/b/image_{i:02d}.jpg" for i in range(30))
    view = dataset.validation_view()
    assert all(name == f"a/b/image_{int(name[10:12]):02d}.jpg" for name in view.images)
    assert [int(name[10:12]) % 6 for name in view.images] == [
        dataset.classes.index(view.classes[c]) for c in view.labels
    ]


def test_captions_of_images_are_joined_through_the_prepared_set(tmp_path, toy, data_dir):
    toy.images["image_files"] = np.array([f"image_{i:02d}.jpg" for i in range(30)], object)[:, None]
    toy.write(tmp_path / "toy")
    rows = "".join(f"image_{i:02d},{NAMES[i % 6]},this is image {i}\n" for i in range(30))
    (tmp_path / "captions.csv").write_text("image,class,caption\n" + rows)
    dataset = load("TOY", dir=str(tmp_path / "toy"), descriptions=str(tmp_path / "captions.csv"))
    captions = dataset.descriptions
    for sentence, image, label in zip(captions.sentences, captions.image, captions.label, strict=True):
        assert sentence == f"this is image {image}" and label == image % 6
    assert dataset.sources["descriptions"] == "captions.csv" and data_dir.exists()


def test_both_file_versions_read_equal(tmp_path, toy, writers):
    five, seven = (read(toy.write(tmp_path / str(i), save)) for i, save in enumerate(writers))
    assert five.fingerprints == seven.fingerprints
    assert five.features.flags.c_contiguous and seven.features.flags.c_contiguous


def test_other_key_of_the_table(tmp_path, toy):
    dataset = read(toy.write(tmp_path), semantics="original_att")
    np.testing.assert_array_equal(dataset.semantics, toy.table["original_att"].T.astype(np.float32))
    assert dataset.sources["semantics"] == "att_splits.mat:original_att"


def test_other_file_of_descriptions(tmp_path, toy, new_toy):
    toy.write(tmp_path)
    other = new_toy()
    other.table["att"] = np.arange(30.0).reshape(5, 6)
    dataset = read(other.write(tmp_path, semantics="sent"), semantics="sent")
    assert dataset.semantics[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert dataset.sources["semantics"] == "sent_splits.mat:att"


def test_a_key_comes_before_a_file(tmp_path, toy):
    toy.write(tmp_path)
    toy.write(tmp_path, semantics="original_att")
    assert xlsa17.find([tmp_path], "TOY", "res101", "original_att").splits.name == "att_splits.mat"


@pytest.mark.parametrize("below", ["", "TOY", "xlsa17/data/TOY", "data/TOY"])
def test_where_files_are_found(tmp_path, toy, below):
    toy.write(tmp_path / "root" / below)
    files = xlsa17.find([tmp_path / "nothing", tmp_path / "root"], "TOY", "res101", "att")
    assert files.features == tmp_path / "root" / below / "res101.mat"


def test_home_is_expanded(tmp_path, toy, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    toy.write(tmp_path / "sets")
    assert xlsa17.find([Path("~/sets")], "TOY", "res101", "att") is not None


def test_nothing_is_found(tmp_path, toy):
    toy.write(tmp_path)
    assert xlsa17.find([tmp_path], "TOY", "vgg19", "att") is None


def test_digest_of_files_follows_their_bytes(tmp_path, toy):
    files = xlsa17.find([toy.write(tmp_path)], "TOY", "res101", "att")
    sha = hashlib.sha256(b"att" + files.features.read_bytes() + files.splits.read_bytes())
    assert files.digest() == sha.hexdigest()[:16]
    assert xlsa17.find([tmp_path], "TOY", "res101", "original_att").digest() != files.digest()
    before = files.digest()
    for name in ("allclasses.txt", "valclasses1.txt"):  # they name classes and choose folds
        (tmp_path / name).write_text("a b c")
        assert files.digest() != before
        before = files.digest()


# ---- what is left out of a file


def test_without_names(tmp_path, toy):
    del toy.table["allclasses_names"]
    assert read(toy.write(tmp_path)).classes == tuple(f"class_00{i}" for i in range(1, 7))


def test_names_from_the_text_file(tmp_path, toy):
    del toy.table["allclasses_names"]
    toy.write(tmp_path)
    (tmp_path / "allclasses.txt").write_text("\n".join(reversed(NAMES)) + "\n")
    assert read(tmp_path).classes == NAMES[::-1]


def test_names_of_the_mat_file_come_first(tmp_path, toy):
    toy.write(tmp_path)
    (tmp_path / "allclasses.txt").write_text("a b c d e f")
    assert read(tmp_path).classes == NAMES


@pytest.mark.parametrize("lists", [["train_loc"], ["val_loc"], ["train_loc", "val_loc"]])
def test_folds_from_the_val_class_list(tmp_path, toy, lists):
    for key in lists:
        del toy.table[key]
    toy.write(tmp_path)
    (tmp_path / "valclasses1.txt").write_text("dalmatian\nkiller+whale\n")  # the latter has no trainval image
    dataset = read(tmp_path)
    assert dataset.version == "rebuilt"
    assert {k: v.tolist() for k, v in dataset.splits.items()} == expected_ids()


def test_folds_without_any_list(tmp_path, toy):
    """A quarter of the four seen classes: the one whose name has the smallest SHA-256."""
    del toy.table["train_loc"], toy.table["val_loc"]
    dataset = read(toy.write(tmp_path))
    seen = ("antelope", "grizzly+bear", "beaver", "dalmatian")
    chosen = min(seen, key=lambda n: hashlib.sha256(n.encode()).digest())
    assert {dataset.classes[dataset.labels[i]] for i in dataset.splits["val"]} == {chosen}
    assert sorted([*dataset.splits["train"], *dataset.splits["val"]]) == expected_ids()["trainval"]


def test_images_in_no_list_are_left_out(tmp_path, toy):
    gone = [2, 9, 24]  # 0-based: test_unseen, trainval (train), test_seen
    for key in [k for k in toy.table if k.endswith("_loc")]:
        toy.table[key] = np.array([[v] for v in toy.table[key].ravel() if v - 1 not in gone], np.uint16)
    dataset = read(toy.write(tmp_path))
    left = [i for i in range(30) if i not in gone]
    np.testing.assert_array_equal(dataset.features, toy.images["features"].T[left].astype(np.float32))
    assert dataset.labels.tolist() == [i % 6 for i in left]
    for role, ids in expected_ids().items():
        assert [left[i] for i in dataset.splits[role]] == [i for i in ids if i not in gone], role


# ---- bad input: one line that names the file and the thing


@pytest.mark.parametrize("name", ["res101.mat", "att_splits.mat"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_damaged_file(tmp_path, toy, save, refused, name, damage):
    path = toy.write(tmp_path, save) / name
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[: len(whole) // 3], "text": b"<html>\nnot found\n</html>\n" * 20, "empty": b""}[damage]
    )
    with refused(path):
        read(tmp_path)


def test_damaged_table_with_another_key(tmp_path, toy, refused):
    path = toy.write(tmp_path) / "att_splits.mat"
    path.write_bytes(b"gone")
    with refused(path):
        read(tmp_path, semantics="original_att")


@pytest.mark.parametrize("key", ["features", "labels"])
def test_missing_variable_of_the_features(tmp_path, toy, save, refused, key):
    del toy.images[key]
    with refused("res101.mat", f"no '{key}'"):
        read(toy.write(tmp_path, save))


@pytest.mark.parametrize("key", ["trainval_loc", "test_seen_loc", "test_unseen_loc"])
def test_missing_list(tmp_path, toy, save, refused, key):
    del toy.table[key]
    with refused("att_splits.mat", f"no '{key}'"):
        read(toy.write(tmp_path, save))


def test_missing_descriptions(tmp_path, toy, refused):
    del toy.table["att"]
    with refused("att_splits.mat", "'att'"):
        read(toy.write(tmp_path))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_not_finite(tmp_path, toy, save, refused, bad):
    toy.images["features"][2, 12] = bad
    with refused("res101.mat", "image 13", "NaN or Inf"):
        read(toy.write(tmp_path, save))


def test_features_not_finite_after_an_image_that_is_left_out(tmp_path, toy, refused):
    """The row named is that of the file, not of what remains of it."""
    for key in [k for k in toy.table if k.endswith("_loc")]:
        toy.table[key] = np.array([[v] for v in toy.table[key].ravel() if v != 3], np.uint16)
    toy.images["features"][2, 12] = np.nan
    with refused("res101.mat", "image 13", "NaN or Inf"):
        read(toy.write(tmp_path))


def test_features_not_finite_of_an_image_in_no_list(tmp_path, toy):
    """Nobody looks at it: taking it out of the lists is one of the two cures the message names."""
    for key in [k for k in toy.table if k.endswith("_loc")]:
        toy.table[key] = np.array([[v] for v in toy.table[key].ravel() if v != 13], np.uint16)
    toy.images["features"][2, 12] = np.nan
    assert np.isfinite(read(toy.write(tmp_path)).features).all()


def test_features_beyond_float32(tmp_path, toy, refused):
    """Finite in the file, Inf once they are float32."""
    toy.images["features"][0, 4] = 1e300
    with refused("res101.mat", "image 5"):
        read(toy.write(tmp_path))


def test_descriptions_not_finite(tmp_path, toy, refused):
    toy.table["att"][0, 3] = np.nan
    with refused("att_splits.mat", "beaver", "NaN or Inf"):
        read(toy.write(tmp_path))


def test_half_precision_features(tmp_path, toy, save_v73, refused):
    toy.images["features"] = toy.images["features"].astype(np.float16)
    with refused("res101.mat", "'features' is float16", "float32"):
        read(toy.write(tmp_path, save_v73))


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int64])
def test_whole_number_features(tmp_path, toy, save, refused, dtype):
    toy.images["features"] = (toy.images["features"] * 9).astype(dtype)
    with refused("res101.mat", f"'features' is {np.dtype(dtype).name}", "float32"):
        read(toy.write(tmp_path, save))


def test_transposed_features(tmp_path, toy, save, refused):
    toy.images["features"] = toy.images["features"].T.copy()
    with refused("res101.mat", "(30, 4)", "30 images", "transposed"):
        read(toy.write(tmp_path, save))


def test_features_of_other_images(tmp_path, toy, refused):
    toy.images["features"] = toy.images["features"][:, :29]
    with refused("res101.mat", "(4, 29)", "30 images"):
        read(toy.write(tmp_path))


def test_features_with_three_axes(tmp_path, toy, refused):
    toy.images["features"] = toy.images["features"].reshape(2, 2, 30)
    with refused("res101.mat", "'features'", "(2, 2, 30)", "two axes"):
        read(toy.write(tmp_path))


def test_descriptions_of_whole_numbers(tmp_path, toy, refused):
    toy.table["att"] = np.ones((3, 6), np.uint8)
    with refused("att_splits.mat", "'att' is uint8"):
        read(toy.write(tmp_path))


@pytest.mark.parametrize(("label", "at"), [(0, 5), (7, 29), (-1, 0), (255, 3)])
def test_label_outside_the_class_table(tmp_path, toy, save, refused, label, at):
    toy.images["labels"][at] = label
    with refused("res101.mat", "att_splits.mat", f"label {label} ", f"image {at + 1} ", "1 to 6"):
        read(toy.write(tmp_path, save))


def test_zero_based_labels_stored_unsigned(tmp_path, toy, refused):
    toy.images["labels"] = (toy.images["labels"] - 1).astype(np.uint8)
    with refused("res101.mat", "label 0 of image 1 ", "1 to 6"):
        read(toy.write(tmp_path))


@pytest.mark.parametrize("bad", [2.5, np.nan, np.inf])
def test_labels_that_are_no_whole_numbers(tmp_path, toy, refused, bad):
    toy.images["labels"][3] = bad
    with refused("res101.mat", "'labels'", "whole numbers"):
        read(toy.write(tmp_path))


@pytest.mark.parametrize("key", ["trainval", "test_seen", "test_unseen", "train", "val"])
def test_zero_based_locations(tmp_path, toy, save, refused, key):
    """Stored as uint16, where 0 - 1 is 65535: the message names the 0 and knows what it means."""
    toy.table[f"{key}_loc"] = toy.table[f"{key}_loc"] - np.uint16(1)
    toy.table[f"{key}_loc"][0] = 0
    assert toy.table[f"{key}_loc"].dtype == np.uint16
    with refused("att_splits.mat", f"{key}_loc holds 0:", "1 to 30", "0-based") as caught:
        read(toy.write(tmp_path, save))
    assert "65535" not in str(caught.value)


@pytest.mark.parametrize("number", [31, 40_000, 65_535])
def test_locations_beyond_the_images(tmp_path, toy, save, refused, number):
    toy.table["val_loc"][0] = number
    with refused("att_splits.mat", f"val_loc holds {number}", "1 to 30"):
        read(toy.write(tmp_path, save))


def test_large_uint16_locations_do_not_wrap(tmp_path, toy):
    """40,000 is -25,536 as int16; image numbers that high are common."""
    n = 40_000
    toy.images = {"features": np.zeros((1, n), np.float32), "labels": (np.arange(n) % 6 + 1.0)[:, None]}
    toy.images["features"][0] = np.arange(n)
    shift = n - 30  # the same images at the end; 39,970 = 4 mod 6, so the labels move as well
    toy.images["labels"] = np.roll(toy.images["labels"], shift - shift // 6 * 6)
    for key in [k for k in toy.table if k.endswith("_loc")]:
        toy.table[key] = toy.table[key] + np.uint16(shift)
    dataset = read(toy.write(tmp_path))
    assert dataset.features.ravel().tolist() == list(range(shift, n))
    assert {k: v.tolist() for k, v in dataset.splits.items()} == expected_ids()


def test_locations_that_are_no_whole_numbers(tmp_path, toy, refused):
    toy.table["test_seen_loc"] = toy.table["test_seen_loc"] + 0.5
    with refused("att_splits.mat", "'test_seen_loc'", "whole numbers"):
        read(toy.write(tmp_path))


def test_class_both_seen_and_unseen(tmp_path, toy, refused):
    """Image 3 is a killer whale: as a training image it makes the class seen."""
    toy.table["trainval_loc"] = np.append(toy.table["trainval_loc"], 3)[:, None].astype(np.uint16)
    toy.table["test_unseen_loc"] = toy.table["test_unseen_loc"][toy.table["test_unseen_loc"] != 3][:, None]
    with refused("att_splits.mat", "killer+whale", "both seen and unseen"):
        read(toy.write(tmp_path))


def test_unseen_class_without_images(tmp_path, toy, refused):
    kept = [v for v in toy.table["test_unseen_loc"].ravel() if (v - 1) % 6 != 5]
    toy.table["test_unseen_loc"] = np.array(kept, np.uint16)[:, None]
    with refused("att_splits.mat", "persian+cat", "without images"):
        read(toy.write(tmp_path))


def test_overlapping_lists(tmp_path, toy, refused):
    toy.table["test_seen_loc"] = np.append(toy.table["test_seen_loc"], 8)[:, None].astype(np.uint16)
    with refused("att_splits.mat", "trainval", "test_seen", "the first is 7 (0-based)"):
        read(toy.write(tmp_path))


def test_overlapping_lists_after_an_image_that_is_left_out(tmp_path, toy, refused):
    for key in [k for k in toy.table if k.endswith("_loc")]:
        toy.table[key] = np.array([[v] for v in toy.table[key].ravel() if v != 3], np.uint16)
    toy.table["test_seen_loc"] = np.append(toy.table["test_seen_loc"], 8)[:, None].astype(np.uint16)
    with refused("att_splits.mat", "the first is 7 (0-based)"):
        read(toy.write(tmp_path))


def test_train_and_val_overlap(tmp_path, toy, refused):
    toy.table["val_loc"] = np.append(toy.table["val_loc"], 7)[:, None].astype(np.uint16)
    with refused("att_splits.mat", "train", "val", "6 (0-based)"):
        read(toy.write(tmp_path))


@pytest.mark.parametrize("key", ["trainval", "test_seen", "test_unseen"])
def test_image_listed_twice(tmp_path, toy, refused, key):
    first = int(toy.table[f"{key}_loc"][0, 0])
    toy.table[f"{key}_loc"] = np.append(toy.table[f"{key}_loc"], first)[:, None].astype(np.uint16)
    with refused("att_splits.mat", key, f"image {first - 1} (0-based) twice"):
        read(toy.write(tmp_path))


def test_empty_list(tmp_path, toy, refused):
    toy.table["test_seen_loc"] = np.zeros((0, 1), np.uint16)
    with refused("att_splits.mat", "test_seen is empty"):
        read(toy.write(tmp_path))


def test_descriptions_of_another_number_of_classes(tmp_path, toy, refused):
    toy.table["att"] = toy.table["att"][:, :5]
    with refused("att_splits.mat", "5 columns", "6 names"):
        read(toy.write(tmp_path))


def test_transposed_descriptions(tmp_path, toy, refused):
    toy.table["att"] = toy.table["att"].T.copy()
    with refused("att_splits.mat", "3 columns", "6 names", "transpose"):
        read(toy.write(tmp_path))


def test_doubled_class_names(tmp_path, toy, refused):
    toy.table["allclasses_names"][4] = "beaver"
    with refused("att_splits.mat", "beaver", "twice"):
        read(toy.write(tmp_path))


def test_names_that_differ_by_spaces_only_are_doubled(tmp_path, toy, refused):
    toy.table["allclasses_names"][4] = " beaver "
    with refused("att_splits.mat", "beaver", "twice"):
        read(toy.write(tmp_path))


def test_empty_list_of_names(tmp_path, toy, refused):
    del toy.table["allclasses_names"]
    toy.write(tmp_path)
    (tmp_path / "allclasses.txt").write_bytes(b"")
    with refused("allclasses.txt", "6 columns", "0 names"):
        read(tmp_path)


@pytest.mark.parametrize("list_of_names", ["allclasses.txt", "valclasses1.txt"])
def test_names_in_a_single_line(tmp_path, toy, refused, list_of_names):
    del toy.table["allclasses_names"], toy.table["train_loc"]
    toy.write(tmp_path)
    (tmp_path / "allclasses.txt").write_text("\n".join(NAMES))
    (tmp_path / list_of_names).write_text(" ".join(NAMES[:5]))
    with refused(tmp_path / list_of_names, "a single line of 5 words", "one name a line is expected"):
        read(tmp_path)


def test_names_hold_spaces_and_stand_once(tmp_path, toy, refused):
    del toy.table["allclasses_names"]
    toy.write(tmp_path)
    (tmp_path / "allclasses.txt").write_text("".join(f"{name.replace('+', ' ')} \n\n" for name in NAMES))
    assert read(tmp_path).classes == tuple(name.replace("+", " ") for name in NAMES)
    (tmp_path / "allclasses.txt").write_text("\n".join([*NAMES[:5], "beaver"]))
    with refused("allclasses.txt has 1 names that stand twice: beaver"):
        read(tmp_path)


def test_list_of_names_in_another_encoding(tmp_path, toy, refused):
    del toy.table["allclasses_names"]
    toy.write(tmp_path)
    (tmp_path / "allclasses.txt").write_bytes("antilope\nhyäne\n".encode("latin-1"))
    with refused(tmp_path / "allclasses.txt", "UTF-8"):
        read(tmp_path)


def test_list_of_names_with_a_byte_order_mark(tmp_path, toy):
    """Windows editors write one; it is no part of the first name."""
    del toy.table["allclasses_names"]
    toy.write(tmp_path)
    (tmp_path / "allclasses.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(NAMES).encode())
    assert read(tmp_path).classes == NAMES


def test_val_class_list_in_another_encoding(tmp_path, toy, refused):
    del toy.table["train_loc"]
    toy.write(tmp_path)
    (tmp_path / "valclasses1.txt").write_bytes(b"hy\xe4ne\n")
    with refused(tmp_path / "valclasses1.txt", "UTF-8"):
        read(tmp_path)


def test_semantics_that_do_not_exist(tmp_path, toy, refused):
    toy.write(tmp_path)
    toy.write(tmp_path, semantics="sent")
    with refused("'word2vec'", tmp_path / "att_splits.mat", "word2vec_splits.mat", "att, sent"):
        read(tmp_path, semantics="word2vec")


def test_features_without_any_table(tmp_path, toy, refused):
    (toy.write(tmp_path) / "att_splits.mat").unlink()
    with refused("att_splits.mat", tmp_path, "no *_splits.mat"):
        read(tmp_path)


# ---- the published lists


def test_split_digest_by_hand(tmp_path, toy):
    dataset = read(toy.write(tmp_path))
    sha = hashlib.sha256()
    for role in ("trainval", "test_seen", "test_unseen"):
        for i in expected_ids()[role]:
            sha.update((i + 1).to_bytes(8, "little"))
    assert xlsa17.split_digest(dataset) == sha.hexdigest()[:16]


def test_own_sets_have_no_published_lists(tmp_path, toy):
    assert xlsa17.is_proposed_split(read(toy.write(tmp_path))) is None


def test_another_split_of_a_published_set(tmp_path, toy):
    files = xlsa17.find([toy.write(tmp_path)], "CUB", "res101", "att")
    assert xlsa17.is_proposed_split(xlsa17.read("CUB", files)) is False
