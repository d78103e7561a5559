"""python -m demjax.encode: captions of a run and others, the file it writes, and DEM trained on it."""

import json
import shutil

import numpy as np
import pytest

from demjax.cli import encode
from demjax.data import load
from demjax.train.config import default_config
from demjax.train.fit import train_and_evaluate

PLANTED = dict(n_classes=10, n_unseen=3, n_attributes=12, n_features=9, images_per_class=8)


def config_of(task, **changes):
    config = default_config(task)
    config.data.name = "planted"
    config.data.planted.update(PLANTED)
    config.train.update(epochs=1, passes_per_epoch=2)
    config.log.tensorboard = False
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the bag of words, and what it wrote."""
    folder = tmp_path_factory.mktemp("encode") / "run"
    config = config_of(
        "ds_sje", **{"task.encoder": "bow", "data.descriptions": "generated", "train.batching": "classes"}
    )
    train_and_evaluate(config, folder, say=lambda line: None)
    return folder


def run(folder, out, *more):
    encode.main([f"--workdir={folder}", f"--out={out}", *more])
    with np.load(out, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def encoded(trained):
    return run(trained, trained.parent / "own.npz")


def test_the_captions_of_the_run(encoded):
    assert encoded["caption_vectors"].shape == (1000, 9) and encoded["caption_vectors"].dtype == np.float32
    assert encoded["classes"].tolist() == sorted(encoded["classes"]) and len(encoded["trained_on"]) == 7
    for c in range(10):
        own = encoded["caption_vectors"][encoded["caption_class"] == c]
        assert len(own) == 100
        np.testing.assert_allclose(encoded["class_vectors"][c], own.mean(axis=0, dtype=np.float64), rtol=1e-6)
    told = json.loads(str(encoded["provenance"]))
    assert told["encoder"] == "bow" and told["captions"]["file"] == "generated" and len(told["config_hash"]) == 12


def test_many_captions_are_read_part_by_part(trained, tmp_path, encoded, monkeypatch):
    monkeypatch.setattr(encode, "AT_ONCE", 300)  # three parts of 1,000 captions, each more than a block of 256
    found = run(trained, tmp_path / "parts.npz")
    for name in ("caption_vectors", "class_vectors"):
        np.testing.assert_allclose(found[name], encoded[name], rtol=1e-5, atol=1e-6)


def test_captions_of_other_classes(trained, tmp_path, encoded, capsys):
    """Classes of the set keep their names, as in 'Class 04'; others are their own."""
    from demjax.train.restore import restore_run

    data = restore_run(trained).dataset
    assert data.descriptions is not None
    own = data.descriptions.sentences[int(data.descriptions.first[4])]
    name = data.classes[4].replace("_", " ").upper()
    file = tmp_path / "mine.csv"
    file.write_text(f'image,class,caption\n,zebu,"a1, a2"\nx.jpg,{name},"{own}"\n,zebu,a2\n')
    found = run(trained, tmp_path / "mine.npz", f"--captions={file}")
    assert found["classes"].tolist() == sorted(["zebu", data.classes[4]])
    assert found["caption_image"].tolist() == ["", "x.jpg", ""]
    place = encoded["classes"].tolist().index(data.classes[4])
    first = np.flatnonzero(encoded["caption_class"] == place)[0]
    np.testing.assert_allclose(found["caption_vectors"][1], encoded["caption_vectors"][first], rtol=1e-5, atol=1e-6)
    zebu = found["classes"].tolist().index("zebu")
    np.testing.assert_allclose(found["class_vectors"][zebu], found["caption_vectors"][[0, 2]].mean(axis=0), rtol=1e-5)
    out = capsys.readouterr().out
    assert "3 captions of 2 classes" in out and "1 of 2 classes are none of the run's data set: zebu" in out
    assert "0.0 % of the words (0 different ones) are unknown" in out


def test_classes_that_nothing_tells_apart_are_named(trained, tmp_path, capsys):
    (tmp_path / "odd.csv").write_text("class,caption\nzork,zork blim\nquux,foo bar\n")
    run(trained, tmp_path / "odd.npz", f"--captions={tmp_path}/odd.csv")
    assert "WARNING: 2 classes share their vector with another" in capsys.readouterr().out


def test_dem_trains_on_the_vectors(trained, tmp_path, encoded, refused):
    del encoded  # written
    config = config_of("dem", **{"data.semantics": f"{trained.parent}/own.npz", "task.hidden": 8})
    report = train_and_evaluate(config, tmp_path / "dem", say=lambda line: None)
    assert report["provenance"]["sources"]["semantics"] == "own.npz (bow, learned on the classes of trainval)"
    assert report["metrics"]["zsl/top1"] > 0
    with refused("holds a run of task dem, which reads no sentences"):
        run(tmp_path / "dem", tmp_path / "a.npz")


def test_mistakes_write_nothing(trained, tmp_path, refused, capsys):
    out = tmp_path / "a.npz"
    with refused("expected a name that ends in .npz"):
        run(trained, tmp_path / "a.txt")
    with refused("there is no folder"):
        run(trained, tmp_path / "none" / "a.npz")
    with refused("config.json: no such file"):
        run(tmp_path, out)
    folder = tmp_path / "b.npz"
    folder.mkdir()
    with refused("b.npz is a folder"):
        run(trained, folder, "--overwrite")
    folder.rmdir()
    empty = tmp_path / "empty.csv"
    empty.write_text("class,caption\nzebu,\n")
    with refused("empty.csv line 2", "the caption is empty"):
        run(trained, out, f"--captions={empty}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.csv"]
    out.write_bytes(b"precious")
    with refused("is there already"):
        run(trained, out)
    assert out.read_bytes() == b"precious"
    assert len(run(trained, out, "--overwrite")["classes"]) == 10


def test_a_caption_in_the_middle_that_cannot_be_read_leaves_no_half_file(trained, tmp_path, refused):
    file = tmp_path / "c.csv"
    file.write_text("class,caption\nzebu,a1\nzebu,...\n")
    with refused("c.csv line 3: the caption '...' has no word"):
        run(trained, tmp_path / "a.npz", f"--captions={file}")
    assert not (tmp_path / "a.npz").exists() and not list(tmp_path.glob("*.part"))


def test_a_population_is_no_single_run(trained, tmp_path, refused):
    copy = tmp_path / "two"
    copy.mkdir()
    config = json.loads((trained / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"population.seeds": 2}))
    with refused("two holds a population: train one member alone"):
        run(copy, tmp_path / "a.npz")


def test_captions_that_moved(tmp_path, refused):
    """The content counts, not the path; other content is refused."""
    config = config_of("ds_sje", **{"task.encoder": "bow", "train.batching": "classes"})
    names = load("planted", planted=PLANTED).classes
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    here.write_text("class,caption\n" + "".join(f"{n},bird {i}\n" for i, n in enumerate(names)))
    config.data.descriptions = str(here)
    train_and_evaluate(config, tmp_path / "run", say=lambda line: None)
    here.rename(there)
    with refused("here.csv: no such file"):
        run(tmp_path / "run", tmp_path / "a.npz")
    assert len(run(tmp_path / "run", tmp_path / "a.npz", f"--descriptions={there}")["classes"]) == 10
    there.write_text(there.read_text().replace("bird 3", "bird three"))
    with refused("was trained with data fingerprints"):
        run(tmp_path / "run", tmp_path / "b.npz", f"--descriptions={there}")


def test_a_damaged_config_and_no_checkpoint(trained, tmp_path, refused):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    shutil.rmtree(copy / "checkpoints")
    with refused("has no checkpoint"):
        run(copy, tmp_path / "a.npz")
    (copy / "config.json").write_text('{"task.name": "ds_sje", "task.widht": 1}')
    with refused("config has an unknown key 'task.widht': did you mean 'task.width'?"):
        run(copy, tmp_path / "a.npz")
    (copy / "config.json").write_text('{"task.name": "descr')
    with refused("config.json is no JSON", "mend it"):
        run(copy, tmp_path / "a.npz")


def test_the_command_line_says_mistakes_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["encode", "--workdir=/nowhere", "--out=a.txt"])
    with pytest.raises(SystemExit, match="1"):
        encode.run()
    assert capsys.readouterr().err == "demjax: error: --out=a.txt: expected a name that ends in .npz\n"
