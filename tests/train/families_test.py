"""The proof that the contracts hold: other families under the same engine, from files of a user, on 1 and 8 devices."""

import json
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.train.config import default_config
from demjax.train.experiment import build
from demjax.train.fit import train_and_evaluate
from demjax.train.restore import restore_run
from demjax.train.run_folder.stop import Preempted, stop
from demjax.train.sweep.population import train_population
from demjax.train.sweep.select import select

TOYS = Path(__file__).parent / "toys"
FAMILIES = {
    "multilabel": ("LabelSet", {"train.batch_size": 13}, "labels/precision@2", "P@2", 0.45),
    "retrieval": ("CaptionSet", {"train.batch_size": 12, "task.text_from": 1}, "recall/1", "R@1", 0.3),
}


def config_of(family, folder=TOYS, **changes):
    data, settings, *_ = FAMILIES[family]
    config = default_config(f"{folder / family}.py:{family}")
    config.data.name = f"{folder / family}.py:{data}"
    config.log.tensorboard = False
    config.train.update(epochs=4, passes_per_epoch=15)
    config.optimizer.update(name="sgd", learning_rate=0.3)
    config.select.grid = (("task.margin", (0.1, 0.2)),)
    config.select.seeds = 1
    config.update_from_flattened_dict(settings | changes)
    return config


def run(config, folder, n_devices=1, say=lambda line: None):
    return train_and_evaluate(config, folder, devices=jax.devices()[:n_devices], say=say)


def variables_of(folder):
    return jax.tree.map(np.asarray, restore_run(folder).variables)


@pytest.mark.parametrize("family", FAMILIES)
def test_trains_reports_and_draws(tmp_path, family):
    _, _, metric, heading, good = FAMILIES[family]
    lines, config = [], config_of(family, **{"evaluate.every": 1})
    report = run(config, tmp_path / "one", say=lines.append)
    assert report["metrics"][metric] > good, "it learns"
    assert any(line.startswith("epoch 2/4") and f"| {heading} " in line for line in lines)
    table = next(line for line in lines if "this run" in line)
    assert heading in table and f"{100 * report['metrics'][metric]:.1f}" in table
    assert (tmp_path / "one" / "report.png").stat().st_size > 5_000 and report["details"]


@pytest.mark.parametrize("family", FAMILIES)
def test_8_devices_train_the_same_model(tmp_path, family):
    """Rows on every device and shared out; few steps, as the hardest negative is another one after a rounding."""
    for placement, n_devices in (("replicated", 1), ("replicated", 8), ("sharded", 8)):
        config = config_of(family, **{"train.placement": placement, "train.epochs": 2, "train.passes_per_epoch": 1})
        run(config, tmp_path / f"{placement}{n_devices}", n_devices)
    one = variables_of(tmp_path / "replicated1")
    for other in ("replicated8", "sharded8"):
        many = variables_of(tmp_path / other)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, many)


@pytest.mark.parametrize("family", FAMILIES)
def test_resumes_bit_for_bit(tmp_path, family):
    config = config_of(family)

    def stopping(line):
        if line.startswith("epoch 2/4"):
            stop.requested_by = signal.SIGTERM

    with pytest.raises(Preempted, match="after epoch 2"):
        run(config, tmp_path / "parts", say=stopping)
    stop.requested_by = None
    run(config, tmp_path / "parts")
    run(config, tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, variables_of(tmp_path / "parts"), variables_of(tmp_path / "whole"))


@pytest.mark.parametrize("family", FAMILIES)
def test_selects_by_its_own_objective(tmp_path, family):
    selection = select(config_of(family), tmp_path, say=lambda line: None)
    assert selection["objective"] == FAMILIES[family][2] and len(selection["tried"]) == 2
    record = json.loads((tmp_path / "001-seed0" / "metrics.jsonl").read_text().splitlines()[-1])
    assert record[selection["objective"]] == selection["tried"][0]["curve"][-1]
    assert json.loads((tmp_path / "001-seed0" / "report.json").read_text())["provenance"]["split_version"] == "toy+val"


def test_a_population_stacks_the_state(tmp_path):
    config = config_of("retrieval", **{"task.text_from": 0, "population.seeds": 2})
    reports = train_population(config, tmp_path / "all", devices=jax.devices()[:1], say=lambda line: None)
    alone = config_of("retrieval", **{"task.text_from": 0, "seed": 1})
    assert run(alone, tmp_path / "one")["metrics"] == pytest.approx(reports[1]["metrics"])
    with pytest.raises(UserError, match="begin to train later"):
        train_population(config_of("retrieval", **{"population.seeds": 2}), tmp_path / "frozen", say=lambda line: None)


def test_the_file_is_kept_with_the_run(tmp_path):
    """It restores without the file that it came from, and without its data; another file is another run."""
    toys = tmp_path / "toys"
    shutil.copytree(TOYS, toys)
    config = config_of("multilabel", toys)
    run(config, tmp_path / "run")
    data = build(config).dataset
    text = (toys / "multilabel.py").read_text()
    (toys / "multilabel.py").write_text(text.replace("jnp.maximum(0.0", "jnp.maximum(0.1"))
    with pytest.raises(UserError, match="task file"):
        run(config, tmp_path / "run")
    shutil.rmtree(toys)
    restored = restore_run(tmp_path / "run", data=False)
    assert restored.epoch == 4 and restored.spec == data.spec and restored.experiment is None
    embedded = restored.task.embed["image"](restored.variables, {"features": data.features[:3]})
    np.testing.assert_allclose(embedded, data.features[:3] @ np.asarray(restored.variables.params), rtol=1e-5)
    with pytest.raises(UserError, match="restored without its data"):
        _ = restored.dataset


EMBED = 'return items["features"] @ variables.params'
BROKEN = {
    "name": ("spec.n_features, spec.n_semantics", "spec.n_features, spec.n_semantic", "'n_semantic'"),
    "import": ("import jax\n", "import jaxx\n", "line 3: ModuleNotFoundError: No module named 'jaxx'"),
    "syntax": ("    return Task(\n", "    return Task((\n", "SyntaxError"),
    "lacks": ("        loss=loss,\n", "", "the task multilabel lacks loss"),
    "no task": ("    return Task(\n", "    return dict(\n", "returns dict: expected demjax.tasks.Task"),
    "three": (", {}, variables.state\n", ", {}\n", "expected .sum, count, {name: sum}, state"),
    "sum": ('jnp.sum(batch["weight"] * wrong)', 'batch["weight"] * wrong', r"sum of shape \(13,\): expected a number"),
    "state": (", variables.state\n", ', {"mean": wrong}\n', "returns the state .*mean.*: expected {}"),
    "raises": ("wrong = jnp", "wrong = batch['nothing'] + jnp", r"line \d+: KeyError: 'nothing'"),
    "shape": (EMBED, f"{EMBED}[:, :, None]", "multilabel.py, line"),
    "one row": (
        EMBED,
        f"{EMBED.replace('return', 'return (')})[:1]",
        r"embed\['image'\] of multilabel returns \(1, 6\)",
    ),
    "class": (
        'lambda variables, items: items["semantics"]}',
        "lambda variables, items: 3}",
        "returns int: expected .12, d",
    ),
    "sweepable": ('sweepable=("margin",)', 'sweepable=("marign",)', "names 'marign': it is none of the constants"),
    "protocols": ("protocols=(LABELS,)", "protocols=(LABELS, print)", "multilabel.py"),
    "rows": ("return Rows(", "return dict(columns=", "batching 'examples' of task .* returns dict"),
    "constants": ("data.vectors[: len(spec.seen)], ", "data.vektors[: len(spec.seen)], ", "'vektors'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_its_line(tmp_path, name):
    old, new, message = BROKEN[name]
    text = (TOYS / "multilabel.py").read_text()
    assert text.count(old) == 1
    (tmp_path / "multilabel.py").write_text(text)
    config = config_of("multilabel", tmp_path)
    config.data.name = f"{TOYS / 'multilabel.py'}:LabelSet"
    (tmp_path / "multilabel.py").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        run(config, tmp_path / "run")
    assert "\n" not in str(error.value) and str(tmp_path / "multilabel.py") in str(error.value)
    assert not (tmp_path / "run").exists()


JUDGED = {
    "raises": ("right = data.signs[", "right = data.sings[", r"line \d+: AttributeError"),
    "no result": ("return Result(", "return print(", "protocol labels returns NoneType: expected Result"),
    "no slash": (
        'Result({"labels/precision@2"',
        'Result({"precision"',
        "a metric 'precision': expected a name as labels/prec",
    ),
    "no number": ("float(right.mean())", "right.mean(axis=0)", "protocol labels returns labels/precision@2 = array"),
}


@pytest.mark.parametrize("name", JUDGED)
def test_a_broken_protocol_is_named_and_the_run_is_kept(tmp_path, name):
    """It runs after the training: the checkpoint stays, and the mended file is another task."""
    old, new, message = JUDGED[name]
    text = (TOYS / "multilabel.py").read_text()
    assert text.count(old) == 1
    (tmp_path / "multilabel.py").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        run(config_of("multilabel", tmp_path, **{"train.epochs": 1}), tmp_path / "run")
    assert "\n" not in str(error.value) and (tmp_path / "run" / "checkpoints" / "1").exists()


def test_a_file_by_a_relative_path_is_named_with_its_line(tmp_path, monkeypatch):
    """As the page on tasks writes it."""
    monkeypatch.chdir(tmp_path)
    text = (TOYS / "multilabel.py").read_text()
    Path("multilabel.py").write_text(text.replace("wrong = jnp", "wrong = batch['nothing'] + jnp"))
    with pytest.raises(UserError, match=r"multilabel.py, line \d+: KeyError: 'nothing'"):
        run(config_of("multilabel", Path()), tmp_path / "run")


def test_a_file_may_change_until_something_is_trained(tmp_path):
    """And its bytes are kept, line ends of Windows among them."""
    text = (TOYS / "multilabel.py").read_text()
    file, config = tmp_path / "multilabel.py", None
    for version in (text.replace("0.1 * jax", "0.2 * jax"), text.replace("\n", "\r\n")):
        file.write_bytes(version.encode())
        config = config_of("multilabel", tmp_path, **{"train.epochs": 1})
        if version != text.replace("\n", "\r\n"):
            stop.requested_by = signal.SIGTERM
            with pytest.raises(Preempted, match="while loading"):
                run(config, tmp_path / "run")
            stop.requested_by = None
    run(config, tmp_path / "run")
    assert (tmp_path / "run" / "task.py").read_bytes() == file.read_bytes()
    assert restore_run(tmp_path / "run").epoch == 1
    (tmp_path / "run" / "task.py").write_text(text.replace("0.1 * jax", "0.3 * jax"))
    with pytest.raises(UserError, match="task file"):
        restore_run(tmp_path / "run", data=False)


def test_a_data_set_that_is_none(tmp_path):
    (tmp_path / "data.py").write_text("def none(folder):\n    return {}\n\ndef bad(folder):\n    return folder.x\n")
    config = config_of("multilabel")
    for name, message in (
        ("none", "none returns dict, which lacks .*spec"),
        ("bad", "data.py, line 5: AttributeError"),
    ):
        config.data.name = f"{tmp_path / 'data.py'}:{name}"
        with pytest.raises(UserError, match=message):
            run(config, tmp_path / "run")


def test_settings_are_keyword_arguments(tmp_path):
    (tmp_path / "task.py").write_text("def linear(spec, l2=0.1):\n    return None\n")
    with pytest.raises(UserError, match="its argument 'l2' is no setting: expected `def NAME.spec, .*, l2=DEFAULT"):
        default_config(f"{tmp_path / 'task.py'}:linear")


def test_fields_that_the_rows_lack(tmp_path):
    text = (TOYS / "multilabel.py").read_text().replace('"signs", "weight"),', '"sings", "weight"),')
    (tmp_path / "multilabel.py").write_text(text)
    with pytest.raises(UserError, match="fields of the task name 'sings': the rows have features, signs, weight"):
        run(config_of("multilabel", tmp_path), tmp_path / "run")


def test_names_that_do_not_exist(tmp_path):
    with pytest.raises(UserError, match="does not define 'multilable': did you mean 'multilabel'"):
        default_config(f"{TOYS / 'multilabel.py'}:multilable")
    with pytest.raises(UserError, match="none.py: no such file"):
        default_config(f"{tmp_path}/none.py:task")
