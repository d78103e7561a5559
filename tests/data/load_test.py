"""One door to all data; the TFDS builder behind it."""

import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from demjax.checks import UserError
from demjax.data import load, xlsa17


@pytest.fixture
def builder_module():
    from demjax.data.datasets.xlsa17 import xlsa17_dataset_builder

    return xlsa17_dataset_builder


def test_prepared_set_equals_the_files(toy, tmp_path, data_dir, save):
    folder = toy.write(tmp_path / "files", save)
    direct = xlsa17.read("TOY", xlsa17.find([folder], "TOY", "res101", "att"))
    for _ in range(2):  # prepared, then found prepared
        loaded = load("TOY", dir=str(folder))
        assert loaded.fingerprints == direct.fingerprints
        assert loaded.classes == direct.classes and loaded.version == direct.version == "ps1"
        for name, ids in direct.splits.items():
            np.testing.assert_array_equal(loaded.splits[name], ids)
        np.testing.assert_array_equal(loaded.features, direct.features)
        np.testing.assert_array_equal(loaded.semantics, direct.semantics)
    assert "tensorflow" not in sys.modules


def test_a_changed_file_is_prepared_anew(toy, tmp_path, data_dir):
    folder = toy.write(tmp_path / "files")
    before = load("TOY", dir=str(folder))
    toy.images["features"][0, 0] += 1
    toy.write(folder)
    after = load("TOY", dir=str(folder))
    assert after.fingerprints["features"] != before.fingerprints["features"]
    assert after.fingerprints["splits"] == before.fingerprints["splits"]


@pytest.mark.parametrize("what", ["metadata.json", "*trainval.array_record*", "dataset_info.json"])
@pytest.mark.parametrize("how", ["changed", "cut"])
def test_a_damaged_prepared_set_is_refused(toy, tmp_path, data_dir, refused, what, how):
    folder = toy.write(tmp_path / "files")
    load("TOY", dir=str(folder))
    (file,) = data_dir.glob(f"xlsa17/TOY-*/1.0.0/{what}")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content if how == "changed" else content[: len(content) // 2])
    try:
        loaded = load("TOY", dir=str(folder))
    except UserError:
        with refused(str(file.parents[1]), "delete it"):
            load("TOY", dir=str(folder))
    else:  # a byte nobody reads, like one of the description
        direct = xlsa17.read("TOY", xlsa17.find([folder], "TOY", "res101", "att"))
        assert what == "dataset_info.json" and loaded.fingerprints == direct.fingerprints


def test_the_manual_folder_of_tfds_is_searched(toy, data_dir):
    toy.write(data_dir / "downloads" / "manual" / "TOY")
    assert load("TOY").version == "ps1"


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
    names = {c.name for c in builder_module.Builder.BUILDER_CONFIGS}
    assert names == {n + v for n in ("CUB", "AWA1", "AWA2", "SUN", "APY") for v in ("", "_ps1", "_ps2")}
    folder = xlsa17.Path(builder_module.__file__).parent
    assert {p.name for p in folder.iterdir()} >= {"README.md", "CITATIONS.bib", "checksums.tsv", "__init__.py"}


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
    prepared = list(data_dir.glob("xlsa17/TOY-res101-att-*/1.0.0"))
    assert len(prepared) == 1
    shutil.rmtree(prepared[0])
