"""Whole runs on a small planted set: resume, refuse, diverge, finish."""

import itertools
import json
import signal
import threading

import jax
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.train import data_cache
from demjax.train import epochs as epochs_module
from demjax.train import fit as fit_module
from demjax.train.config import default_config, quick
from demjax.train.epochs import TrainingDiverged
from demjax.train.experiment import build
from demjax.train.fit import train_and_evaluate
from demjax.train.run_folder.checkpoint import Checkpoints
from demjax.train.run_folder.folder import open_folder
from demjax.train.run_folder.stop import Preempted, stop

ONE = jax.devices()[:1]


def tiny(**changes):
    config = default_config()
    quick(config)
    config.log.tensorboard = False
    config.train.update(epochs=4, batching="examples", batch_size=13)
    config.update_from_flattened_dict(changes)
    return config


def run(config, workdir, devices=ONE, **kwargs):
    return train_and_evaluate(config, workdir, devices=devices, say=lambda line: None, **kwargs)


def final_state(config, workdir, devices=ONE):
    """Every leaf of the newest checkpoint, in bytes."""
    experiment = build(config, devices)
    checkpoints = Checkpoints(workdir / "checkpoints")
    try:
        restored = checkpoints.restore(experiment.fresh_state(), experiment.identity)
    finally:
        checkpoints.close()
    return [np.array(leaf).tobytes() for leaf in jax.tree.leaves(restored.state)]


def stop_after(monkeypatch, epochs):
    """Asks for a stop, as SIGTERM does, once `epochs` epochs are reported."""
    tell = epochs_module.Reporter.epoch

    def tell_and_stop(self, epoch, *args):
        tell(self, epoch, *args)
        if epoch == epochs:
            stop.requested_by = signal.SIGTERM

    monkeypatch.setattr(epochs_module.Reporter, "epoch", tell_and_stop)


def test_report_has_what_programs_read(tmp_path):
    config = tiny(**{"evaluate.every": 2})
    run(config, tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    metrics = report["metrics"]
    names = {"zsl/top1", "zsl/micro", "gzsl/unseen", "gzsl/seen", "gzsl/harmonic", "hubness/n1_skewness"}
    assert names <= metrics.keys()
    assert all(0 <= metrics[k] <= 1 for k in names - {"hubness/n1_skewness"})
    u, s = metrics["gzsl/unseen"], metrics["gzsl/seen"]
    assert metrics["gzsl/harmonic"] == pytest.approx(2 * u * s / (u + s) if u + s else 0.0)
    assert report["seconds"].keys() == {"train", "evaluate", "total"}
    assert report["config"]["train.epochs"] == 4
    assert {"config_hash", "fingerprints", "seed", "devices", "versions", "split_version"} <= report[
        "provenance"
    ].keys()
    assert report["provenance"]["fingerprints"].keys() == {"features", "semantics", "splits"}
    assert report["bayes"]["zsl/top1"] <= 1
    assert report["best_on_test"]["gzsl/harmonic"] >= metrics["gzsl/harmonic"]
    assert report["details"].keys() == {"zsl", "gzsl"} and report["details"]["zsl"].keys() == {"unseen_accuracy", "n1"}
    assert [c["heading"] for c in report["columns"]][:4] == ["T1", "U", "S", "H"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert [("zsl/top1" in line) for line in lines] == [False, True, False, True]


@pytest.mark.parametrize("batching", ["examples", "class_sums"])
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, monkeypatch, batching):
    config = tiny(**{"train.batching": batching, "optimizer.schedule": "cosine", "optimizer.warmup_steps": 3})
    run(config, tmp_path / "whole")
    for epochs in (1, 3):
        with monkeypatch.context() as patch:
            stop_after(patch, epochs)
            with pytest.raises(Preempted, match=f"SIGTERM after epoch {epochs}"):
                run(config, tmp_path / "parts")
        assert not (tmp_path / "parts" / "report.json").exists()
        stop.requested_by = None
    run(config, tmp_path / "parts")
    assert final_state(config, tmp_path / "parts") == final_state(config, tmp_path / "whole")
    a, b = (json.loads((tmp_path / d / "report.json").read_text())["metrics"] for d in ("whole", "parts"))
    assert a == b
    lines = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]


def test_a_stop_during_the_evaluation_need_not_wait_for_its_end(tmp_path, monkeypatch):
    stop_after(monkeypatch, 4)
    with pytest.raises(Preempted, match="SIGTERM while evaluating"):
        run(tiny(), tmp_path)
    assert not (tmp_path / "report.json").exists()
    stop.requested_by = None
    assert run(tiny(), tmp_path)["provenance"]["epoch"] == 4


def test_a_stop_during_an_evaluation_on_the_way(tmp_path, monkeypatch):
    """The epoch is saved at once, and evaluated when the run goes on: no line is poorer for it."""
    config, evaluate, asked = tiny(**{"evaluate.every": 2}), epochs_module.evaluate, []

    def stopped_in_the_middle(*args):
        asked.append(True)
        stop.requested_by = signal.SIGTERM
        return evaluate(*args)

    run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(epochs_module, "evaluate", stopped_in_the_middle)
        with pytest.raises(Preempted, match="after epoch 2"):
            run(config, tmp_path / "parts")
    stop.requested_by = None
    run(config, tmp_path / "parts")
    a, b = (
        [json.loads(x) for x in (tmp_path / d / "metrics.jsonl").read_text().splitlines()] for d in ("whole", "parts")
    )
    for one, two in zip(a, b, strict=True):
        assert {k: v for k, v in one.items() if k not in ("time", "seconds")} == {
            k: v for k, v in two.items() if k not in ("time", "seconds")
        }


def test_saves_by_the_clock_too(tmp_path):
    run(tiny(**{"train.checkpoint_every": 100, "train.checkpoint_minutes": 1e-9}), tmp_path)
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"2", "3", "4"}


def test_a_clock_that_goes_backwards(tmp_path, monkeypatch):
    """Somebody sets the time while a run trains and saves by the minute; and before it resumes."""
    now = itertools.count(1e9, -3600.0)
    config = tiny(**{"train.checkpoint_every": 1, "train.checkpoint_minutes": 60.0})
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: next(now))
        stop_after(patch, 2)
        with pytest.raises(Preempted, match="after epoch 2"):
            run(config, tmp_path)
        stop.requested_by = None
    assert run(config, tmp_path)["provenance"]["epoch"] == 4
    told = [json.loads(line)["epoch"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert told == [1, 2, 3, 4] and {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"2", "3", "4"}


def test_stop_between_checkpoints_saves(tmp_path, monkeypatch):
    config = tiny(**{"train.checkpoint_every": 100})
    stop_after(monkeypatch, 2)
    with pytest.raises(Preempted):
        run(config, tmp_path)
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"2"}


def test_resumes_on_other_devices(tmp_path, monkeypatch):
    config = tiny()
    run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Preempted):
            run(config, tmp_path / "moved", devices=jax.devices()[:8])
    stop.requested_by = None
    run(config, tmp_path / "moved", devices=jax.devices()[:2])
    whole, moved = (
        json.loads((tmp_path / d / "metrics.jsonl").read_text().splitlines()[-1]) for d in ("whole", "moved")
    )
    assert moved["train/loss"] == pytest.approx(whole["train/loss"], rel=1e-4)


def test_finished_run_is_evaluated_again_and_not_trained(tmp_path, monkeypatch):
    config = tiny()
    first = run(config, tmp_path)
    monkeypatch.setattr(epochs_module, "compile_epoch", None)  # training would fail
    again = run(config, tmp_path)
    assert again["metrics"] == first["metrics"]
    assert again["seconds"]["train"] == first["seconds"]["train"]
    assert run(config, tmp_path, train=False)["metrics"] == first["metrics"]


def test_evaluating_nothing_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no checkpoint to evaluate"):
        run(tiny(), tmp_path, train=False)


def test_evaluating_a_mistyped_folder_makes_nothing(tmp_path):
    with pytest.raises(UserError, match="mend --workdir"):
        run(tiny(), tmp_path / "cbu", train=False)
    assert not (tmp_path / "cbu").exists()


def test_what_another_mode_reads_may_change(tmp_path):
    run(tiny(), tmp_path)
    run(tiny(**{"select.seeds": 2, "select.grid": (("task.l2", (1.0,)),), "evaluate.query_batch": 7}), tmp_path)


def test_parameters_that_overflow_in_the_last_update_are_not_saved(tmp_path, monkeypatch):
    """The loss is measured before the update: it cannot see this."""
    compile_epoch = epochs_module.compile_epoch

    def spoil_third(*args, **kwargs):
        epoch = compile_epoch(*args, **kwargs)

        def spoiled(state, rows, constants):
            state, losses = epoch(state, rows, constants)
            bad = jax.tree.map(lambda x: x * float("inf"), state.variables)
            return (state._replace(variables=bad) if int(state.calls) == 3 else state), losses

        return spoiled

    monkeypatch.setattr(epochs_module, "compile_epoch", spoil_third)
    with pytest.raises(TrainingDiverged, match="parameters are not finite after epoch 3"):
        run(tiny(), tmp_path)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == ["1", "2"]


def test_a_stop_before_the_first_epoch_does_not_claim_to_have_saved(tmp_path):
    stop.requested_by = signal.SIGTERM
    with pytest.raises(Preempted, match="^stopped by SIGTERM while loading the data$"):
        run(tiny(), tmp_path)


def test_best_on_test_looks_no_further_than_the_checkpoint(tmp_path):
    config = tiny(**{"evaluate.every": 1})
    run(config, tmp_path)
    file = tmp_path / "metrics.jsonl"
    later = json.loads(file.read_text().splitlines()[-1]) | {"epoch": 9, "gzsl/harmonic": 1.0, "zsl/top1": 1.0}
    file.write_text(file.read_text() + json.dumps(later) + "\n")
    report = run(config, tmp_path, train=False)
    assert report["best_on_test"]["gzsl/harmonic"] < 1 and report["best_on_test"]["zsl/top1"] < 1


def test_changed_config_is_refused_with_the_keys(tmp_path):
    run(tiny(), tmp_path)
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.name != "lock" and p.is_file())
    with pytest.raises(UserError, match=r"seed: 0 there, 1 now; task.hidden: 64 there, 32 now"):
        run(tiny(**{"task.hidden": 32, "seed": 1}), tmp_path)
    after = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.name != "lock" and p.is_file())
    assert before == after


def test_changed_data_are_refused(tmp_path, monkeypatch):
    """Same config, other bytes behind the same name."""
    run(tiny(), tmp_path)
    load = data_cache.load

    def other(**settings):
        dataset = load(**settings)
        dataset.features[0, 0] += 1
        return dataset

    monkeypatch.setattr(data_cache, "load", other)
    with pytest.raises(UserError, match="was trained with"):
        run(tiny(), tmp_path)


def test_data_of_another_width_are_refused_and_nothing_is_moved(tmp_path):
    """Orbax's complaint about shapes is a mistake of the person, not damage."""
    run(tiny(), tmp_path)
    saved = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.name != "lock" and p.is_file()}
    wider = tiny(**{"data.planted.n_features": 24})
    for train in (True, False):
        with pytest.raises(UserError, match="was trained with"):
            run_on_other_data(wider, tmp_path, train)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.name != "lock" and p.is_file()} == saved


def run_on_other_data(config, workdir, train):
    """As a folder whose files were exchanged: the config says the same as before, the data do not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "claim", lambda folder, config: None)
        return train_and_evaluate(config, workdir, train=train, devices=ONE, say=lambda line: None)


def test_divergence_names_the_step_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    config = tiny()
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Preempted):
            run(config, tmp_path)
    stop.requested_by = None
    steps = build(config, ONE).steps_per_epoch
    good = final_state(config, tmp_path)

    compile_epoch = epochs_module.compile_epoch

    def poisoned(*args, **kwargs):
        epoch = compile_epoch(*args, **kwargs)

        def spoiled(*arguments):
            state, losses = epoch(*arguments)
            return state, losses | {"loss": losses["loss"].at[1].set(np.nan)}

        return spoiled

    monkeypatch.setattr(epochs_module, "compile_epoch", poisoned)
    with pytest.raises(TrainingDiverged, match=rf"loss is nan at step {2 * steps + 2} \(epoch 3\)") as told:
        run(config, tmp_path)
    assert "\n" not in str(told.value)
    assert final_state(config, tmp_path) == good


def test_divergence_for_real(tmp_path):
    config = tiny(**{"optimizer.name": "sgd", "optimizer.learning_rate": 1e6})
    with pytest.raises(TrainingDiverged, match=r"at step \d+ \(epoch 1\)"):
        run(config, tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_two_runs_in_one_workdir(tmp_path):
    with open_folder(tmp_path):
        refused = []

        def second():  # flock is held by the open file, not by the thread: a second open is refused here too
            try:
                run(tiny(), tmp_path)
            except UserError as error:
                refused.append(str(error))

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(refused) == 1 and "in use by another run (process" in refused[0]
    run(tiny(), tmp_path)


@pytest.mark.parametrize("place", ["file", "/proc/demjax"])
def test_workdir_not_writable(tmp_path, place):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="cannot be written to"):
        run(tiny(), tmp_path / place)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("batching", ["class_sums", "classes"])
def test_batches_a_task_does_not_allow(tmp_path, batching):
    config = tiny(**{"train.batching": batching, "task.loss": "hinge"})  # which is no sum over classes
    with pytest.raises(UserError, match=f"train.batching is {batching!r}: the loss of dem needs examples"):
        run(config, tmp_path)


def test_what_does_not_fit_the_validation_classes_is_said_before_the_training(tmp_path):
    config = default_config("ds_sje")
    config.data.update(name="planted", descriptions="generated")
    config.data.planted.update(n_classes=8, n_unseen=2, n_attributes=6, n_features=5, images_per_class=6)
    config.task.encoder, config.evaluate.calibrate = "bow", True
    config.train.update(batching="classes", batch_size=6)
    with pytest.raises(UserError, match="on the validation classes: train.batch_size is 6, .* there are [45] seen"):
        run(config, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_fewer_classes_than_a_batch_of_different_ones(tmp_path):
    config = default_config("ds_sje")
    config.data.update(name="planted", descriptions="generated")
    config.data.planted.update(n_classes=8, n_unseen=2, n_attributes=6, n_features=5, images_per_class=6)
    config.task.encoder = "bow"
    config.train.update(batching="classes", batch_size=7)
    with pytest.raises(UserError, match="train.batch_size is 7, of different classes: there are 6 seen ones"):
        run(config, tmp_path)
    config.train.update(batch_size=6, passes_per_epoch=2, epochs=2)
    config.optimizer.update(name="sgd", learning_rate=1.0, schedule="exponential", decay=0.5)
    experiment = build(config)
    optimizer = experiment.optimizer(0)
    state = optimizer.init({"w": np.zeros(1, np.float32)})
    rates = []
    for _ in range(13):  # a pass has as many steps as classes, and the rate halves after each
        updates, state = optimizer.update({"w": np.ones(1, np.float32)}, state)
        rates.append(-float(updates["w"][0]))
    assert rates == [1.0] * 6 + [0.5] * 6 + [0.25] and experiment.steps_per_epoch == 12


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("task.hidden", -1, "task.hidden is -1: expected a whole number >= 0"),
        ("task.source_weights", (1.0, 2.0), "task.source_weights is .1.0, 2.0.: expected 1 numbers"),
        ("task.source_l2", (0.1,), "task.source_l2 is for the fusion of several sources"),
        ("optimizer.learning_rate", -0.1, "optimizer.learning_rate is -0.1: expected a number > 0"),
        ("optimizer.name", "adm", "did you mean 'adam'"),
        ("optimizer.schedule", "cos", "optimizer.schedule is .cos."),
        ("train.batching", "sums", "train.batching is .sums."),
        ("train.epochs", 0, "train.epochs is 0"),
        ("train.precision", "hi", "train.precision is .hi."),
        ("task.name", "dam", "did you mean 'dem'"),
        ("data.fold", "tset", "did you mean 'test'"),
        ("data.planted.n_unseen", 20, "expected two seen ones"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(tmp_path, key, value, told):
    with pytest.raises(UserError, match=told) as error:
        run(tiny(**{key: value}), tmp_path / "new")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_planted_set_is_learned(tmp_path, get_config):
    """The whole road leads somewhere: far above chance (4 %), never above the best possible rule by much."""
    report = run(get_config("synthetic"), tmp_path)
    assert 0.75 < report["metrics"]["zsl/top1"] <= report["bayes"]["zsl/top1"] + 0.02
    assert 0.65 < report["metrics"]["gzsl/harmonic"] <= report["bayes"]["gzsl/harmonic"] + 0.02
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_data_are_read_once_and_an_epoch_is_evaluated_once(tmp_path, monkeypatch):
    """A run with calibration: the twin views the data in memory; the last epoch is left to the final evaluation."""
    loaded, evaluated = [], []
    load, evaluate = data_cache.load, fit_module.evaluate

    def count(task, variables, dataset, *args):
        evaluated.append(dataset.is_validation_view)
        return evaluate(task, variables, dataset, *args)

    monkeypatch.setattr(data_cache, "load", lambda **settings: loaded.append(settings["fold"]) or load(**settings))
    monkeypatch.setattr(fit_module, "evaluate", count)
    monkeypatch.setattr(epochs_module, "evaluate", count)
    report = run(tiny(**{"evaluate.calibrate": True, "evaluate.every": 1}), tmp_path)
    assert loaded == ["test"]
    assert evaluated == [False] * 3 + [True] + [False]  # epochs 1 to 3, the twin, the end
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = {k: v for k, v in report["metrics"].items() if v is not None}
    assert {k: lines[-1][k] for k in last} == last and "zsl/top1" in lines[0]


def test_a_report_of_a_protocol_without_the_usual_metrics_ends(tmp_path, monkeypatch):
    """It was drawn as if every report had zsl/top1, and a resumed run was evaluated for ever."""
    config = default_config("amp")
    quick(config)
    config.log.tensorboard = False
    report = run(config, tmp_path)
    assert "gzsl/harmonic" not in report["metrics"] and (tmp_path / "report.png").exists()
    assert run(config, tmp_path)["metrics"] == report["metrics"]
