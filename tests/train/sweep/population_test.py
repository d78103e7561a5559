"""Populations: each member is the run it would be alone; resumed, spread over devices, reported one by one."""

import json
import signal

import jax
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.cli import tables
from demjax.train.config import default_config, quick
from demjax.train.engine.epoch import compile_epoch
from demjax.train.engine.placement import place_rows
from demjax.train.experiment import build
from demjax.train.fit import train_and_evaluate
from demjax.train.run_folder.stop import Preempted, stop
from demjax.train.sweep import population as population_module
from demjax.train.sweep import replicas as replicas_module
from demjax.train.sweep.grid import spelled_out
from demjax.train.sweep.population import train_population
from demjax.train.sweep.replicas import build_population, compile_population, initial_states, member_config

ONE, EIGHT = jax.devices()[:1], jax.devices()
SETTINGS = (("task.l2", (0.0, 0.1)), ("optimizer.learning_rate", (1e-3, 3e-3)))


def tiny(**changes):
    config = default_config()
    quick(config)
    config.log.tensorboard = False
    config.train.update(epochs=3, batching="examples", batch_size=13)
    config.population.update(seeds=2, settings=SETTINGS)
    config.update_from_flattened_dict(changes)
    return config


def run(config, workdir, devices=ONE, **kwargs):
    return train_population(config, workdir, devices=devices, say=lambda line: None, **kwargs)


def test_a_member_equals_the_run_alone(tmp_path):
    """Eight members; three devices take three each, the last one with a copy."""
    config = tiny()
    reports = run(config, tmp_path / "all", EIGHT[:3])
    assert [(r["config"]["seed"], r["config"]["task.l2"]) for r in reports[:3]] == [(0, 0.0), (1, 0.0), (0, 0.0)]
    for i in (0, 3, 7):
        member = build_population(config, ONE).members[i]
        alone = train_and_evaluate(member_config(config, member), tmp_path / f"{i}", devices=ONE, say=lambda line: None)
        assert (
            reports[i]["config"] == alone["config"]
            and reports[i]["details"]["zsl"]["n1"] == alone["details"]["zsl"]["n1"]
        )
        assert reports[i]["metrics"] == pytest.approx(alone["metrics"], abs=1e-6)


@pytest.mark.parametrize("side_by_side", [False, True])
def test_parameters_of_members_are_those_of_single_epochs(monkeypatch, side_by_side):
    """Also mapped as on a GPU, with vmap."""
    if side_by_side:
        monkeypatch.setattr(replicas_module, "_map", lambda one, platform: jax.vmap(one))
    config = tiny()
    population = build_population(config, ONE)
    shared = population.experiment
    rows = place_rows(shared.rows, shared.task.fields, shared.mesh)
    states, losses = compile_population(population)(
        initial_states(population), population.numbers, rows, shared.constants
    )
    assert losses["loss"].shape == (8, shared.steps_per_epoch)
    for i in (0, 3, 6):
        alone = build(member_config(config, population.members[i]), ONE)
        epoch = compile_epoch(alone.task, alone.optimizer(0), alone.mesh, alone.plan)
        state, single = epoch(alone.fresh_state(), rows, alone.constants)
        np.testing.assert_allclose(losses["loss"][i], single["loss"], rtol=1e-5)
        for a, b in zip(jax.tree.leaves(states.variables), jax.tree.leaves(state.variables), strict=True):
            np.testing.assert_allclose(np.asarray(a)[i], b, rtol=1e-4, atol=1e-5)


def test_stopped_and_resumed_on_other_devices(tmp_path, monkeypatch):
    config = tiny()
    whole = run(config, tmp_path / "whole")
    compile_it = population_module.compile_population

    def stop_in_second(population):
        epoch, done = compile_it(population), []

        def one(*args):
            done.append(1)
            if len(done) == 2:
                stop.requested_by = signal.SIGTERM
            return epoch(*args)

        return one

    monkeypatch.setattr(population_module, "compile_population", stop_in_second)
    with pytest.raises(Preempted, match="after epoch 2, saved"):
        run(config, tmp_path / "part")
    stop.requested_by = None
    monkeypatch.undo()
    resumed = run(config, tmp_path / "part", ONE)
    assert [r["metrics"] for r in resumed] == [r["metrics"] for r in whole]


def test_settings_by_their_last_names(tmp_path):
    plain, named = tiny(), tiny(**{"population.settings": ()})
    (key, values), *rest = plain.population.settings
    named.population = dict(seeds=2, **{k.partition(".")[2]: list(v) for k, v in plain.population.settings})
    assert spelled_out(named).population == plain.population and key in ("optimizer.learning_rate", "task.l2")
    whole, again = run(plain, tmp_path / "a"), run(named, tmp_path / "a")  # the same run: there is nothing left to do
    assert [r["metrics"] for r in whole] == [r["metrics"] for r in again]
    for wrong, told in (
        ({"learning_rat": (1.0,)}, "did you mean 'learning_rate'"),
        ({"name": ("a",)}, "write optimizer.name or task.name in"),
    ):
        named.population = dict(seeds=2, **wrong)
        with pytest.raises(UserError, match=told):
            spelled_out(named)
    named.population = dict(learning_rate=(0.1,))
    with pytest.raises(UserError, match="population has learning_rate and no seeds"):
        spelled_out(named)
    named.population = dict(seeds=2, settings="ab", learning_rate=(0.1,))
    with pytest.raises(UserError, match="population.settings is 'ab': expected"):
        spelled_out(named)
    named.population = dict(seeds=2, settings=5)
    with pytest.raises(UserError, match="population.settings is 5: expected"):
        run(named, tmp_path / "b")
    named.population = dict(seeds=2, learning_rate=0.1)
    with pytest.raises(UserError, match="expected .*key"):
        run(named, tmp_path / "b")


def test_every_member_is_a_run_to_the_tables(tmp_path):
    run(tiny(**{"population.settings": ()}), tmp_path)
    text = tables.over_seeds(tables.read_reports([str(tmp_path)]))
    assert text.count("\n") == 2 and "| 2 |" in text and "±" in text
    assert json.loads((tmp_path / "members" / "001" / "config.json").read_text())["seed"] == 1


def test_calibration_comes_from_a_twin_of_every_member(tmp_path):
    whole = ((SETTINGS[0][0], (1, 2)),)  # integers for a setting of floats
    config = tiny(**{"evaluate.calibrate": True, "evaluate.correction": "csls", "population.settings": whole})
    reports = run(config, tmp_path)
    for i, report in enumerate(reports):
        twin = json.loads((tmp_path / "validation" / "members" / f"{i:03d}" / "report.json").read_text())
        assert twin["provenance"]["fold"] == "val" and twin["config"]["seed"] == report["config"]["seed"]
        for prefix in ("", "corrected/"):
            found = twin["metrics"][f"{prefix}gzsl/best_penalty"]
            assert report["metrics"][f"{prefix}gzsl_calibrated/penalty"] == found


def test_a_diverging_member_does_not_take_the_others_along(tmp_path):
    said = []
    config = tiny(**{"population.settings": (("optimizer.learning_rate", (1e-3, 1e30)),), "optimizer.name": "sgd"})
    reports = train_population(config, tmp_path, devices=ONE, say=said.append)
    assert [r["config"]["optimizer.learning_rate"] for r in reports] == [1e-3, 1e-3]
    assert any("2 members are not finite" in line for line in said)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"population.settings": (("task.hidden", (1, 2)),)}, "'task.hidden', in which members of dem cannot differ"),
        ({"population.settings": (("task.l3", (1.0,)),)}, "did you mean 'task.l2'"),
        ({"population.settings": (("task.l2", ()),)}, "'task.l2' with .*expected every key and every value once"),
        ({"population.settings": (("task.l2", (0.1, 0.1)),)}, "expected every key and every value once"),
        ({"population.settings": (("task.l2", 0.1),)}, "expected .*key, .value"),
        ({"population.settings": ("task.l2",)}, "expected .*key, .value"),
        ({"population.settings": (("task.l2", ("a",)),)}, "does not fit"),
        ({"population.settings": (("task.l2", (0.1, -1.0)),)}, "task.l2 is -1"),
        ({"population.settings": (("optimizer.learning_rate", (0.0,)),)}, "optimizer.learning_rate is 0"),
    ],
)
def test_bad_settings(tmp_path, changes, told):
    with pytest.raises(UserError, match=told):
        run(tiny(**changes), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_closed_form_has_no_population(tmp_path, get_config):
    config = get_config("cub_baseline", "quick")
    config.population.seeds = 2
    with pytest.raises(UserError, match="eszsl has a closed form"):
        run(config, tmp_path)
