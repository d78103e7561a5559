"""Every config: its `:quick` runs, and `:released` holds the constants of the released scripts."""

import ast
import inspect
from pathlib import Path

import pytest

from demjax.checks import UserError
from demjax.tasks import TASKS, settings_of
from demjax.train.config import check_config, config_hash, default_config, flatten
from demjax.train.experiment import build
from demjax.train.fit import train_and_evaluate

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


# Whoever takes all settings of a section as keyword arguments; those of `task` are made from them (`settings_of`).
OPTIONS = {"options": "evaluate"}  # what protocols receive of a section, read by key
TAKERS = {"data": "load", "data.planted": "plant", "optimizer": "make_optimizer"}


def loaded(tree):
    """Names of variables that are read."""
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def pairs(target, value):
    """(name, expression) of an assignment, also of several at once."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return [pair for t, v in zip(target.elts, value.elts, strict=True) for pair in pairs(t, v)]
    return [(target.id, value)] if isinstance(target, ast.Name) else []


def last_name(node, short):
    """`train` of `run.config.train`, and of a variable that stands for it."""
    if isinstance(node, ast.Name):
        return short.get(node.id, node.id)
    return node.attr if isinstance(node, ast.Attribute) else ""


def settings_read(sources):
    """{"config.seed", "train.epochs", ...}: the last two names of all attributes read, and what the TAKERS make use of.

    Of `options["hits"]` it is the section that OPTIONS names, and the key.

    A file that makes the default config is left out: it names every setting.
    """
    read, takes, taken = set(), {}, set()
    for source in sources:
        tree = ast.parse(source)
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        if any(f.name == "default_config" for f in functions):
            continue
        for f in functions:
            assigned = [n for n in ast.walk(f) if isinstance(n, ast.Assign)]
            named = [pair for n in assigned for target in n.targets for pair in pairs(target, n.value)]
            short = {name: value.attr for name, value in named if isinstance(value, ast.Attribute)}
            for n in ast.walk(f):
                if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load):
                    read.add(f"{last_name(n.value, short)}.{n.attr}")
                if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Load) and isinstance(n.slice, ast.Constant):
                    read.add(f"{OPTIONS.get(last_name(n.value, short))}.{n.slice.value}")
                if isinstance(n, ast.Call):
                    given = [ast.unparse(k.value) for k in n.keywords if k.arg is None]
                    names = {last_name(part, short) for k in n.keywords for part in ast.walk(k.value)}
                    taken |= {(last_name(n.func, {}), name) for name in names if given}
            if f.name in TAKERS.values():
                arguments = {a.arg for a in (*f.args.args, *f.args.kwonlyargs)}
                takes.setdefault(f.name, set()).update(arguments & loaded(f))
    for section, taker in TAKERS.items():
        if (taker, section.rpartition(".")[2]) in taken:
            read |= {f"{section}.{key}" for key in takes.get(taker, ())}
    return read


def unread(settings, sources):
    """Settings, but those of the task, that no file makes use of."""
    read = settings_read(sources)
    return [k for k in settings if not k.startswith("task.") and (k if "." in k else f"config.{k}") not in read]


PACKAGE = [f.read_text() for f in (Path(__file__).parents[1] / "demjax").rglob("*.py")]


def test_every_setting_is_read_somewhere():
    """A setting nobody reads is a lie."""
    assert unread(flatten(default_config()), PACKAGE) == []


@pytest.mark.parametrize("name", TASKS)
def test_every_setting_of_a_task_is_read_by_the_task(name):
    (task,) = ast.parse(inspect.getsource(TASKS[name])).body
    assert settings_of(name) and settings_of(name).keys() <= loaded(task)


READER = """
def make_optimizer(*, rate, idle=0):
    return rate

def hits(options, others):
    options["never"] = others["never"]
    return options["hits"]

def run(config):
    mesh, given = 1, config.evaluate
    config.train.batch = 3
    return config.seed, config.train.epochs, given.every, make_optimizer(steps=1, **config.optimizer.to_dict())
"""


@pytest.mark.parametrize(
    ("use", "without", "missed"),
    [
        ("", "", []),
        ("config.seed", "1", ["seed"]),
        ("train.epochs", "train.others", ["train.epochs"]),
        ("given.every", "other.every", ["evaluate.every"]),
        ("config.evaluate", "config.select", ["evaluate.every"]),
        ('return options["hits"]', "return 1", ["evaluate.hits"]),
        ("return rate", "return 1", ["optimizer.rate"]),
        ("**config.optimizer.to_dict()", "rate=1", ["optimizer.rate"]),
    ],
)
def test_the_test_can_fail(use, without, missed):
    """What is only set, and an argument that is only taken, are not read; nor is a use that was deleted."""
    used = ["seed", "train.epochs", "evaluate.every", "evaluate.hits", "optimizer.rate"]
    idle = ["evaluate.never", "train.batch", "optimizer.idle", "train.never"]
    assert sorted(unread(used + idle, [READER.replace(use, without)])) == sorted(missed + idle)
