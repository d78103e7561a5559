"""Every config: its `:quick` runs, and `:released` holds the constants of the released scripts."""

from pathlib import Path

import pytest

from demjax.checks import UserError
from demjax.train.config import check_config, config_hash, default_config, flatten
from demjax.train.loop import train_and_evaluate
from demjax.train.run import build

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
BENCHMARKS = ("cub", "awa1", "awa2", "sun", "apy")

# name: (semantics, hidden, lambda, rate, batch, score): the table of released settings, typed again.
RELEASED = {
    "cub": ("att", 1200, 1e-2, 1e-5, 100, "cosine"),
    "awa1": ("att", 1600, 1e-3, 1e-4, 64, "euclidean"),
    "awa2": ("original_att", 1600, 1e-3, 1e-4, 64, "euclidean"),
    "sun": ("original_att", 1600, 1e-5, 1e-4, 64, "euclidean"),
    "apy": ("original_att", 1600, 1e-4, 1e-4, 64, "euclidean"),
}
TRAINING_IMAGES = dict(cub=7057, awa1=19832, awa2=23527, sun=10320, apy=5932)


SAME_AS_CUB = ("awa1", "awa2", "sun", "apy")  # on a planted set


@pytest.mark.parametrize("name", [f.stem for f in CONFIGS if f.stem not in SAME_AS_CUB])
def test_quick_runs(name, tmp_path, get_config):
    """What makes it quick is what it does: a few passes over a few small images."""
    config = get_config(name, "quick")
    assert config.train.epochs * config.train.passes_per_epoch <= 6 and config.train.batch_size <= 32
    planted = config.data.planted
    assert config.data.name == "planted" and planted.n_classes * planted.images_per_class <= 200
    assert planted.n_features <= 32 and planted.n_attributes <= 8
    report = train_and_evaluate(config, tmp_path, say=lambda line: None)
    assert 0 <= report["metrics"]["zsl/top1"] <= 1


@pytest.mark.parametrize("name", [f.stem for f in CONFIGS])
def test_docstring_has_a_command_and_the_file_is_short(name, get_config):
    text = (Path(__file__).parents[1] / "configs" / f"{name}.py").read_text()
    assert f"python -m demjax.main --config=configs/{name}.py" in text.split('"""')[1]
    assert len(text.splitlines()) <= 60
    check_config(get_config(name))


@pytest.mark.parametrize("name", SAME_AS_CUB)
def test_what_is_the_same_as_cub(name, get_config):
    """On a planted set nothing is left of what these configs change but names."""
    own, cub = (flatten(get_config(n, "quick")) for n in (name, "cub"))
    assert {k for k in own if own[k] != cub[k]} <= {"data.semantics"}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_released_constants(name, get_config):
    config = get_config(name, "released")
    semantics, hidden, l2, rate, batch, score = RELEASED[name]
    assert (config.data.semantics, config.task.hidden, config.task.l2) == (semantics, hidden, l2)
    assert (config.optimizer.learning_rate, config.train.batch_size, config.task.score) == (rate, batch, score)
    assert (config.optimizer.name, config.optimizer.schedule, config.optimizer.clip_norm) == ("adam", "constant", 0)
    assert (config.task.init, config.task.loss_form, config.task.semantics_scale) == ("released", "released", "none")
    assert config.train.batching == "examples"
    passes = config.train.epochs * config.train.passes_per_epoch
    updates = passes * -(-TRAINING_IMAGES[name] // batch)
    assert 1_000_000 <= updates < 1_001_000


def test_unknown_argument(get_config):
    with pytest.raises(UserError, match="did you mean 'released'"):
        get_config("cub", "relased")


def test_the_hash_sees_what_changes_a_result_only():
    base, moved, seeded = default_config(), default_config(), default_config()
    moved.data.dir, moved.log.tensorboard = "elsewhere", False
    seeded.seed = 1
    assert config_hash(base) == config_hash(moved) != config_hash(seeded)


def test_unknown_and_missing_keys():
    config = default_config()
    config.train.unlock()
    config.train.epoch = 3
    with pytest.raises(UserError, match="unknown key 'train.epoch': did you mean 'train.epochs'"):
        build(config)
    config = default_config()
    del config.train.epochs
    with pytest.raises(UserError, match="config lacks 'train.epochs'"):
        build(config)


def test_every_setting_is_read_somewhere():
    """A setting nobody reads is a lie: each is mentioned in the package outside config.py."""
    package = Path(__file__).parents[1] / "demjax"
    text = "".join(f.read_text() for f in package.rglob("*.py") if f.name != "config.py")
    for key in flatten(default_config()):
        assert key.rpartition(".")[2] in text, key
