"""One door to all data; the TFDS builder behind it."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from demjax.checks import UserError
from demjax.data import load
from demjax.data.sources import planted, xlsa17
from tests.waiting import HUNG

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever asks for the net in these tests is told that there is none."""

    def refuse(*_, **__):
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def builder_module():
    from demjax.data.sources.xlsa17 import xlsa17_dataset_builder

    return xlsa17_dataset_builder


def test_prepared_set_equals_the_files(toy, tmp_path, data_dir, save):
    folder = toy.write(tmp_path / "files", save)
    direct = xlsa17.read("TOY", xlsa17.find([folder], "TOY", "res101", "att"))
    for _ in range(2):  # prepared, then found prepared
        loaded = load("TOY", dir=str(folder))
        assert loaded.fingerprints == direct.fingerprints
        assert loaded.classes == direct.classes and loaded.version == direct.version == "ps1"
        assert loaded.sources == direct.sources and loaded.name == direct.name == "TOY"
        assert loaded.splits.keys() == direct.splits.keys()
        np.testing.assert_array_equal(loaded.labels, direct.labels)
        for name, ids in direct.splits.items():
            np.testing.assert_array_equal(loaded.splits[name], ids)
        np.testing.assert_array_equal(loaded.features, direct.features)
        np.testing.assert_array_equal(loaded.semantics, direct.semantics)
        assert loaded.features.dtype == loaded.semantics.dtype == np.float32
    assert "tensorflow" not in sys.modules


def test_tensorflow_is_not_even_asked_for(toy, tmp_path):
    """In a process of its own, with a tensorflow that cannot be imported: else its mere absence would pass."""
    folder = toy.write(tmp_path / "files")
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise SystemExit('somebody imported tensorflow')")
    program = f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]
        from demjax.data import load
        assert len(load("TOY", dir={str(folder)!r}).features) == 30
        assert "tensorflow" not in sys.modules
        import importlib.util
        assert importlib.util.find_spec("tensorflow").origin.startswith({str(tmp_path)!r})
    """
    environment = os.environ | {"TFDS_DATA_DIR": str(tmp_path / "tfds"), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HUNG)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tfds" / "xlsa17").is_dir()


def test_planted_needs_no_files_and_takes_its_settings(data_dir):
    sizes = {"n_classes": 6, "n_unseen": 2, "n_features": 3, "images_per_class": 5, "seed": 3}
    assert load("planted", planted=sizes).fingerprints == planted.plant(**sizes).fingerprints
    assert load("planted", planted=sizes, fold="val").version == "planted+val"
    assert not data_dir.exists()


def test_a_changed_file_is_prepared_anew(toy, tmp_path, data_dir):
    folder = toy.write(tmp_path / "files")
    before = load("TOY", dir=str(folder))
    toy.images["features"][0, 0] += 1
    toy.write(folder)
    after = load("TOY", dir=str(folder))
    assert after.fingerprints["features"] != before.fingerprints["features"]
    assert after.fingerprints["splits"] == before.fingerprints["splits"]
    assert after.features[0, 0] == np.float32(toy.images["features"][0, 0])
    toy.table["att"] = toy.table["original_att"]
    toy.write(folder)
    last = load("TOY", dir=str(folder))
    np.testing.assert_array_equal(last.semantics, toy.table["original_att"].T.astype(np.float32))
    assert last.fingerprints["features"] == after.fingerprints["features"]


def test_semantics_of_one_file_are_not_mixed_up(toy, tmp_path, data_dir):
    folder = str(toy.write(tmp_path / "files"))
    tables = [load("TOY", dir=folder, semantics=key).semantics for key in ("att", "original_att", "att")]
    for found, key in zip(tables, ("att", "original_att", "att"), strict=True):
        np.testing.assert_array_equal(found, toy.table[key].T.astype(np.float32))


@pytest.mark.parametrize("what", ["metadata.json", "*trainval.array_record*", "dataset_info.json"])
@pytest.mark.parametrize("how", ["changed", "cut"])
def test_a_damaged_prepared_set_is_refused(toy, tmp_path, data_dir, refused, what, how):
    folder = toy.write(tmp_path / "files")
    load("TOY", dir=str(folder))
    (file,) = data_dir.glob(f"xlsa17/TOY-*/1.2.0/{what}")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content if how == "changed" else content[: len(content) // 2])
    try:
        loaded = load("TOY", dir=str(folder))
    except UserError:
        with refused(str(file.parents[1]), "delete it"):
            load("TOY", dir=str(folder))
    else:  # a byte nobody reads, like one of the description, or a digit beyond single precision
        direct = xlsa17.read("TOY", xlsa17.find([folder], "TOY", "res101", "att"))
        assert what.endswith(".json") and loaded.fingerprints == direct.fingerprints


@pytest.mark.parametrize("below", ["", "TOY", "data/TOY", "xlsa17/data/TOY", "xlsa17/TOY"])
def test_the_manual_folder_of_tfds_is_searched(toy, data_dir, below):
    toy.write(data_dir / "downloads" / "manual" / below)
    np.testing.assert_array_equal(load("TOY").features, toy.images["features"].T.astype(np.float32))


def test_the_folder_given_comes_before_the_manual_one(toy, new_toy, data_dir, tmp_path):
    other = new_toy("ps2")
    other.write(data_dir / "downloads" / "manual" / "TOY")
    assert load("TOY", dir=str(toy.write(tmp_path / "given"))).version == "ps1"
    assert load("TOY").version == "ps2"


def test_nothing_anywhere_for_an_own_set(data_dir, refused, tmp_path):
    with refused("res101.mat of TOY", str(data_dir / "downloads" / "manual"), "--config.data.dir"):
        load("TOY")
    with refused("vgg19.mat of CUB", str(tmp_path)):
        load("CUB", dir=str(tmp_path), features="vgg19")
    assert not list(tmp_path.rglob("dataset_info.json"))


def test_a_folder_that_does_not_exist(refused):
    with refused("/nowhere", "res101.mat"):
        load("CUB", dir="/nowhere")


class _Manager(tfds.download.DownloadManager):
    """TFDS's download manager, without a network."""

    def __init__(self, manual, answer):
        self._manual_dir, self._answer = manual, answer

    def download_and_extract(self, url):
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def find_files(builder_module, tmp_path, answer, name="CUB"):
    config = builder_module.Xlsa17Config(name=f"{name}-own", dataset=name)
    builder = builder_module.Builder(config=config, data_dir=tmp_path / "tfds")
    return builder._find_files(_Manager(tmp_path / "manual", answer))


def test_a_download_that_fails_says_everything(builder_module, tmp_path, refused):
    told = (
        "xlsa17.zip", "about 879 MB", "SHA-256", builder_module.URL, str(tmp_path / "manual"),
        "--config.data.dir=FOLDER", "configs/synthetic.py",
    )  # fmt: skip
    with refused(*told):
        find_files(builder_module, tmp_path, ConnectionError("no route"))


def test_a_download_that_fails_by_the_front_door(data_dir, refused, monkeypatch):
    asked = []

    def fail(self, url):
        asked.append(url)
        raise ConnectionError("two\nlines")

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", fail)
    for _ in range(2):  # the first failure must not pass for a prepared set
        with refused("res101.mat of SUN", "xlsa17.zip", "ConnectionError", "--config.data.dir=FOLDER"):
            load("SUN")
    assert asked == ["http://datasets.d2.mpi-inf.mpg.de/xian/xlsa17.zip"] * 2
    assert not list(data_dir.rglob("dataset_info.json"))


@pytest.mark.parametrize("wanted", [{"name": "TOY"}, {"name": "CUB", "features": "vgg19"}])
def test_what_the_archive_does_not_hold_is_not_downloaded(data_dir, refused, monkeypatch, wanted):
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", lambda *_: pytest.fail("asked for it"))
    with refused(f"{wanted.get('features', 'res101')}.mat of {wanted['name']}"):
        load(**wanted)


def test_an_empty_folder_given_is_not_answered_by_a_download(tmp_path, data_dir, refused, monkeypatch):
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", lambda *_: pytest.fail("asked for it"))
    with refused("res101.mat of CUB", str(tmp_path)):
        load("CUB", dir=str(tmp_path))


def test_a_download_of_something_else_is_refused(builder_module, toy, tmp_path, refused):
    with refused("holds no res101.mat of CUB"):
        find_files(builder_module, tmp_path, tmp_path / "empty")
    toy.write(tmp_path / "fetched" / "xlsa17" / "data" / "CUB")
    with refused("not the published split of CUB"):
        find_files(builder_module, tmp_path, tmp_path / "fetched")


def test_a_download_with_the_published_split_is_used(builder_module, toy, tmp_path, monkeypatch):
    folder = toy.write(tmp_path / "fetched" / "xlsa17" / "data" / "CUB")
    digest = xlsa17.split_digest(xlsa17.read("CUB", xlsa17.find([folder], "CUB", "res101", "att")))
    monkeypatch.setitem(xlsa17.PROPOSED_SPLITS, "CUB", digest)
    assert find_files(builder_module, tmp_path, tmp_path / "fetched").features == folder / "res101.mat"


def test_configs_of_the_builder(builder_module):
    configs = {c.name: c for c in builder_module.Builder.BUILDER_CONFIGS}
    assert len(configs) == len(builder_module.Builder.BUILDER_CONFIGS)
    assert set(configs) == {n + v for n in ("CUB", "AWA1", "AWA2", "SUN", "APY") for v in ("", "_ps1", "_ps2")}
    assert (configs["SUN"].dataset, configs["SUN"].split) == ("SUN", "auto")
    assert (configs["SUN_ps2"].dataset, configs["SUN_ps2"].split) == ("SUN", "ps2")
    assert {(c.features, c.semantics) for c in configs.values()} == {("res101", "att")}
    folder = Path(builder_module.__file__).parent
    assert {p.name for p in folder.iterdir()} >= {"README.md", "CITATIONS.bib", "checksums.tsv", "__init__.py"}


def test_a_listed_config_is_prepared_by_the_builder_alone(builder_module, toy, tmp_path):
    """As `tfds build` does it, without `load`."""
    builder = builder_module.Builder(config="CUB_ps1", source=toy.write(tmp_path / "files"), data_dir=tmp_path / "tfds")
    builder.download_and_prepare(file_format="array_record")
    assert {k: v.num_examples for k, v in builder.info.splits.items()} == {
        "trainval": 16,
        "test_seen": 4,
        "test_unseen": 10,
    }
    row = builder.as_data_source("test_seen")[0]
    assert (row["id"], row["label"]) == (24, 0)
    np.testing.assert_array_equal(row["features"], toy.images["features"][:, 24].astype(np.float32))


def test_asking_for_the_other_split_version(new_toy, tmp_path, data_dir, refused):
    folder = new_toy("ps1").write(tmp_path / "files")
    assert load("TOY", dir=str(folder), split="ps1").version == "ps1"
    with refused("split version ps1, not ps2", "--config.data.split=auto"):
        load("TOY", dir=str(folder), split="ps2")
    with pytest.raises(UserError, match="data.split is 'ps3'"):
        load("TOY", dir=str(folder), split="ps3")


def test_bad_files_leave_nothing_behind(toy, tmp_path, data_dir):
    folder = toy.write(tmp_path / "files")
    good = load("TOY", dir=str(folder))
    toy.images["features"][0, 0] = np.nan
    toy.write(tmp_path / "bad")
    with pytest.raises(UserError, match="NaN"):
        load("TOY", dir=str(tmp_path / "bad"))
    assert len(list(data_dir.rglob("dataset_info.json"))) == 1
    assert load("TOY", dir=str(folder)).fingerprints == good.fingerprints


def test_validation_fold(toy, tmp_path, data_dir):
    folder = toy.write(tmp_path / "files")
    view = load("TOY", dir=str(folder), fold="val")
    assert view.version == "ps1+val" and len(view.classes) == 4
    with pytest.raises(UserError, match="data.fold is 'train'"):
        load("TOY", dir=str(folder), fold="train")


def test_the_cache_is_tfds_default_folder(toy, tmp_path, data_dir):
    load("TOY", dir=str(toy.write(tmp_path / "files")))
    assert len(list(data_dir.glob("xlsa17/TOY-res101-att-*/1.2.0"))) == 1


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda toy: toy.images["features"].__setitem__((1, 6), np.inf), ["res101.mat", "image 7"]),
        (lambda toy: toy.images["labels"].__setitem__(3, 9), ["res101.mat", "label 9 of image 4"]),
        (lambda toy: toy.table["val_loc"].__setitem__(0, 0), ["att_splits.mat", "val_loc", "0-based"]),
        (lambda toy: toy.table["allclasses_names"].__setitem__(0, "beaver"), ["att_splits.mat", "beaver"]),
        (lambda toy: toy.table.pop("test_seen_loc"), ["att_splits.mat", "test_seen_loc"]),
    ],
)
def test_bad_files_by_the_front_door(toy, tmp_path, data_dir, refused, spoil, named):
    """Every kind of bad file: tests/data/xlsa17_test.py. Here: TFDS adds no line of its own."""
    spoil(toy)
    with refused(tmp_path, *named):
        load("TOY", dir=str(toy.write(tmp_path / "files")))


def test_damaged_split_file_by_the_front_door(toy, tmp_path, data_dir, refused):
    folder = toy.write(tmp_path / "files")
    (folder / "att_splits.mat").write_bytes(b"not\na table")
    with refused(folder / "att_splits.mat"):
        load("TOY", dir=str(folder))


def test_unknown_semantics_by_the_front_door(toy, tmp_path, data_dir, refused):
    with refused("'wv'", "att_splits.mat"):
        load("TOY", dir=str(toy.write(tmp_path / "files")), semantics="wv")


def test_two_first_runs_at_once(toy, tmp_path, data_dir):
    """Both find nothing prepared; one prepares, the other waits and reads."""
    folder = toy.write(tmp_path / "files")
    code = f"from demjax.data import load; print(load('TOY', dir={str(folder)!r}).fingerprints['features'])"
    env = os.environ | {"TFDS_DATA_DIR": str(data_dir)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        for _ in range(2)
    ]
    told = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[0][0] == told[1][0] != ""
