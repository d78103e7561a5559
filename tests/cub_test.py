"""The headline on real CUB features, and the whole road through files, TFDS and the command line's function."""

import jax
import numpy as np
import pytest

from demjax.data import load
from demjax.hubness import k_occurrence, k_skewness
from demjax.search import nearest
from demjax.tasks import TASKS
from demjax.train.embedder import TaskEmbedder
from demjax.train.fit import train_and_evaluate


@pytest.fixture
def cub(shared_data, get_config):
    config = get_config("cub")
    config.data.dir, config.data.features = str(shared_data / "cub"), "vgg19"
    config.log.tensorboard = False
    return config


def run(config, workdir):
    return train_and_evaluate(config, workdir, devices=jax.devices()[:1], say=lambda line: None)


def test_t1_and_h_of_the_selected_setting(cub, tmp_path):
    """One seed; README has three. A closed-form ESZSL has 0.517 / 0.180 on these files."""
    report = run(cub, tmp_path)
    assert report["metrics"]["zsl/top1"] >= 0.51
    assert report["metrics"]["gzsl/harmonic"] >= 0.32
    assert report["provenance"]["split_version"] == "ps1"
    assert report["provenance"]["sources"] == {"features": "vgg19.mat", "semantics": "att_splits.mat:att"}


def test_sentences_instead_of_attributes(cub, tmp_path):
    cub.data.semantics, cub.train.epochs = "sent", 1
    report = run(cub, tmp_path)
    assert report["metrics"]["zsl/top1"] > 0.5
    assert report["provenance"]["sources"]["semantics"] == "sent_splits.mat:att"


def test_released_setting_goes_downhill(cub, tmp_path, get_config):
    import json

    released = get_config("cub", "released")
    released.data.update(dir=cub.data.dir, features="vgg19")
    released.train.update(passes_per_epoch=1, epochs=2)
    released.log.tensorboard = False
    run(released, tmp_path)
    first, second = [json.loads(line)["train/loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert second < first


def test_hubs_of_ridge_both_ways(cub):
    """The sign and the order of the paper; the settings are those selected on validation classes (README)."""
    data = load("CUB", dir=cub.data.dir, features="vgg19")
    everyone, skewness = np.arange(200), {}
    for direction, l2 in (("visual->semantic", 1.0), ("semantic->visual", 10.0)):
        task = TASKS["ridge"](data.spec, direction=direction, l2=l2, features_scale="unit")
        embedder = TaskEmbedder(task, task.solve(data), data)
        queries, classes = embedder.embed("image", "test_unseen"), embedder.embed("class", "all")
        for name, names in (("unseen", data.unseen), ("all", everyone)):
            ids = nearest(queries, classes[names], 1).ids
            skewness[direction, name] = k_skewness(np.asarray(k_occurrence(ids, len(names))))
    assert skewness["visual->semantic", "all"] > skewness["semantic->visual", "all"] + 1 > 2
    assert skewness["visual->semantic", "unseen"] > skewness["semantic->visual", "unseen"] > 0
