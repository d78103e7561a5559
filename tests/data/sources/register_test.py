"""The register of sources, and the example of its README."""

import re
from pathlib import Path

import numpy as np
import pytest

from demjax.data import Dataset, load, sources
from demjax.data.sources import SOURCES

README = Path(sources.__file__).with_name("README.md")


def test_every_source_says_what_it_is():
    for name, source in SOURCES.items():
        assert source.name == name and source.about and "\n" not in source.about
    assert next(iter(SOURCES)) == "xlsa17" and SOURCES["xlsa17"].claims("anything", None)


def test_the_last_source_that_claims_a_set_reads_it(tmp_path):
    assert SOURCES["planted"].claims("planted", tmp_path) and not SOURCES["planted"].claims("CUB", None)
    assert not SOURCES["class_lists"].claims("CUB", tmp_path) and not SOURCES["class_lists"].claims("CUB", None)
    (tmp_path / "features.npy").touch()
    assert SOURCES["class_lists"].claims("CUB", tmp_path)
    sizes = dict(n_classes=6, n_unseen=2, n_features=3, images_per_class=5)
    assert load("planted", dir=str(tmp_path), planted=sizes).version == "planted"


def test_planted_reads_its_settings():
    sizes = dict(n_classes=6, n_unseen=2, n_features=3, images_per_class=5)
    dataset = SOURCES["planted"].read("planted", None, planted=sizes)
    assert isinstance(dataset, Dataset) and dataset.spec.n_classes == 6


@pytest.fixture
def example():
    """The source of the README, registered for one test."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    before = dict(SOURCES)
    exec(compile(code, str(README), "exec"), {})
    yield
    SOURCES.clear()
    SOURCES.update(before)


def test_the_example_of_the_readme_is_a_source(example, tmp_path, refused):
    names = ["owl", "gull", "wren", "emu", "kiwi", "rhea"]
    x = np.arange(60, dtype=np.float32).reshape(30, 2)
    np.save(tmp_path / "vectors.npy", x)
    (tmp_path / "labels.txt").write_text("".join(f"{names[i % 6]}\n" for i in range(30)))
    (tmp_path / "table.csv").write_text("".join(f"{name},{i},{i * i}\n" for i, name in enumerate(names)))
    dataset = load("BIRDS", dir=str(tmp_path))
    assert dataset.classes == tuple(names) and dataset.semantics.tolist() == [[i, i * i] for i in range(6)]
    assert dataset.unseen.tolist() == [4, 5] and dataset.is_mapped and isinstance(dataset, Dataset)
    assert load("BIRDS", dir=str(tmp_path), fold="val").is_validation_view
    (tmp_path / "labels.txt").write_text("dodo\n" * 30)
    with refused("labels.txt has the class 'dodo'", "table.csv"):
        load("BIRDS", dir=str(tmp_path))
