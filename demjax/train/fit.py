"""train_and_evaluate: resume, epochs, evaluate, save, report. Runs any task under any protocol, names none."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from demjax import distributed
from demjax.checks import UserError
from demjax.data import fingerprints
from demjax.data.files import read_json
from demjax.data.lazy_rows import Deferred
from demjax.mesh import replicate
from demjax.tasks import Variables
from demjax.train import epochs
from demjax.train.config import flatten
from demjax.train.data_cache import DataCache
from demjax.train.engine import memory
from demjax.train.engine.state import TrainState
from demjax.train.evaluate import evaluate, tuned_options
from demjax.train.experiment import Experiment, build
from demjax.train.plots import draw_to
from demjax.train.report import best_evaluated, make_report, table
from demjax.train.run_folder.checkpoint import Checkpoints
from demjax.train.run_folder.folder import SPEC, claim, note_placement, open_folder, shared_folder, write_json
from demjax.train.summary import summarise

KEYS_OF_A_PROCESS = ("data.dir", "data.descriptions", "task.word_vectors", "profile")
FINGERPRINTS = "fingerprints.json"


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | Path,
    *,
    devices: Sequence[jax.Device] | None = None,
    say: Callable[[str], None] = print,
    train: bool = True,
    cache: DataCache | None = None,
) -> dict[str, Any]:
    """Trains to the last epoch, from where `workdir` stands, then evaluates; returns what report.json holds.

    Args:
      config: `train.config.default_config()`, changed.
      workdir: one folder is one run. The same call again resumes; a finished run is only evaluated.
      devices: to train on; default all local ones. May differ from the devices of earlier sessions.
      say: receives each line meant for people.
      train: False evaluates the newest checkpoint as it is.
      cache: data sets in memory, for many runs on the same files.

    Raises:
      UserError: bad config or data, a workdir of another run, a loss that is not finite.
      Preempted: SIGTERM or Ctrl-C came; the state is saved.
    """
    started = time.perf_counter()
    folder = Path(workdir).expanduser()
    memory.agree()
    distributed.check_alike("settings", _settings(config, folder, train))
    with distributed.raise_in_all():
        experiment = build(config, devices, cache, folder)
        if not train and not experiment.task.solve and not (folder / "checkpoints").is_dir():
            raise UserError(f"{workdir} has no checkpoint to evaluate: train first (--mode=train), or mend --workdir")
    return run(experiment, folder, say=say, train=train, started=started)


def run(
    experiment: Experiment,
    folder: Path,
    *,
    say: Callable[[str], None] = print,
    train: bool = True,
    started: float | None = None,
) -> dict[str, Any]:
    """`train_and_evaluate` for an experiment that is built and checked."""
    started = time.perf_counter() if started is None else started
    if not distributed.is_first():
        say = silent
    with contextlib.ExitStack() as held:
        with distributed.raise_in_all():
            _open(folder, experiment, held)
        shared_folder(folder)
        look_at_data(experiment, folder)
        distributed.check_alike("data", _digest([experiment.identity, experiment.placement]))
        checkpoints = Checkpoints(folder / "checkpoints", keep=experiment.config.train.keep_checkpoints)
        try:
            variables, calls, seconds = _fit(experiment, folder, checkpoints, say, train)
            return _judge(experiment, folder, variables, calls, seconds, say, started)
        finally:
            checkpoints.close()


def silent(line: str) -> None:
    """What processes other than 0 do with a line: process 0 writes for all."""


def _settings(config: ConfigDict, folder: Path, train: bool) -> str:
    """What all processes must have been started with: everything but where the data of each lie."""
    flat = {key: value for key, value in flatten(config).items() if key not in KEYS_OF_A_PROCESS}
    return _digest([flat, str(folder.resolve()), train])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _open(folder: Path, experiment: Experiment, held: contextlib.ExitStack) -> None:
    """Process 0 holds the folder of the run for all."""
    if distributed.is_first():
        held.enter_context(open_folder(folder))
        claim(folder, experiment.config)
        note_placement(folder, streamed=experiment.placement.kind == "streamed")
        if not (folder / SPEC).exists():
            kept = {} if experiment.task.solve else experiment.statistics
            shapes = {name: (np.shape(x), str(np.asarray(x).dtype)) for name, x in kept.items()}
            write_json(folder / SPEC, {"spec": experiment.dataset.spec.to_json(), "statistics": shapes})


def look_at_data(experiment: Experiment, folder: Path) -> None:
    """Reads a mapped file: for its digest once for all starts of the run, as the folder keeps it; for class sums.

    Raises:
      UserError: a row that holds NaN or Inf.
      Preempted: asked to stop meanwhile.
    """
    epochs.stop_loading()
    for column in getattr(experiment.dataset, "mapped", ()):  # of kinds whose columns may be files
        fingerprints.load_known(folder / FINGERPRINTS)
        fingerprints.fingerprint_file(column, epochs.stop_loading)
        with distributed.raise_in_all():
            if distributed.is_first():
                write_json(folder / FINGERPRINTS, fingerprints.known(column))
    for rows in experiment.rows.columns.values() if experiment.rows else ():
        if isinstance(rows, Deferred):
            rows.made(epochs.stop_loading)


def _fit(
    experiment: Experiment, folder: Path, checkpoints: Checkpoints, say, train: bool
) -> tuple[Variables, int, float]:
    """Variables, finished calls and seconds of training: solved, or trained from where the folder stands."""
    if experiment.task.solve:  # anew each time: there is nothing to resume
        begun = time.perf_counter()
        variables = jax.block_until_ready(experiment.task.solve(experiment.dataset))
        _say_all(summarise(experiment, variables.params), say)
        return variables, experiment.config.train.epochs, time.perf_counter() - begun
    state, seconds = _start(experiment, folder, checkpoints, say, train)
    if int(state.calls) == 0 and not train:
        raise UserError(f"{folder} has no checkpoint to evaluate: train first (--mode=train)")
    if train and int(state.calls) < experiment.total_calls:
        _say_all(summarise(experiment, state.variables.params), say)
        state, seconds = epochs.train(experiment, state, seconds, folder, checkpoints, say)
    return state.variables, int(state.calls), seconds


def _say_all(lines: Sequence[str], say) -> None:
    for line in lines:
        say(line)


def _start(
    experiment: Experiment, folder: Path, checkpoints: Checkpoints, say, train: bool
) -> tuple[TrainState, float]:
    """The newest good state of the folder, else a fresh one; and the seconds trained so far."""
    state = replicate(experiment.fresh_state(), experiment.mesh)
    restored = checkpoints.restore(state, experiment.identity, warn=say, move=train)
    if restored is None:
        return state, 0.0
    say(f"{folder}: resuming after {experiment.where(restored.step)} of {experiment.config.train.epochs}")
    return restored.state, restored.meta["seconds"]


def _judge(
    experiment: Experiment, folder: Path, variables: Variables, calls: int, seconds: float, say, started: float
) -> dict[str, Any]:
    """The final evaluation, and its report."""
    tuned = tune(experiment, folder, say)
    begun = time.perf_counter()
    task, data, protocols = experiment.task, experiment.dataset, experiment.task.protocols
    evaluation = evaluate(task, variables, data, experiment.options(tuned), experiment.mesh, epochs.stop_evaluating)
    done, epoch = time.perf_counter(), calls // experiment.placement.chunks
    _amend(experiment, folder, calls, evaluation.metrics)
    looks = not task.solve and not data.is_validation_view
    report = make_report(
        config=json.loads(json.dumps(flatten(experiment.config))),
        evaluation=evaluation,
        protocols=protocols,
        seconds={"train": seconds, "evaluate": done - begun, "total": done - started},
        provenance=experiment.provenance(epoch),
        bayes=data.bayes,
        best_on_test=best_evaluated(folder, epoch, protocols) if looks and experiment.config.evaluate.every else None,
    )
    with distributed.raise_in_all():
        if distributed.is_first():
            _publish(experiment, folder, report, say)
    return report


def _amend(experiment: Experiment, folder: Path, calls: int, metrics: Mapping[str, float]) -> None:
    """Adds the final metrics to the last line, where epochs are evaluated; a closed form has no other line."""
    reporter = epochs.new_reporter(experiment, folder, silent)
    if experiment.task.solve:
        reporter.replace([{"epoch": calls} | dict(metrics)])
    elif experiment.config.evaluate.every and not reporter.is_evaluated(calls):
        reporter.amend(calls, metrics)
    reporter.close()


def _publish(experiment: Experiment, folder: Path, report: dict[str, Any], say) -> None:
    protocols = experiment.task.protocols
    write_json(folder / "report.json", report)
    say(table(report, protocols))
    # A selection makes hundreds of runs on the validation view: they are not drawn.
    picture = None if experiment.dataset.is_validation_view else draw_to(folder, report, protocols)
    say(f"report: {folder / 'report.json'}" + (f", picture: {picture}" if picture else ""))


def tune(experiment: Experiment, folder: Path, say) -> dict[str, dict[str, float]]:
    """Options of the protocols that are best on the validation view for a twin of this run that has not seen it."""
    if not experiment.calibrates:
        return {}
    say("calibrating on validation classes")
    report = _finished(experiment.twin, folder / "validation") or run(
        experiment.twin, folder / "validation", say=loud_only(say)
    )
    return tuned_options(experiment.task, report["metrics"])


def _finished(experiment: Experiment, folder: Path) -> dict[str, Any] | None:
    """The report of a run that is finished in `folder`, of this very experiment; None where there is none."""
    if not any(distributed.any_of(distributed.is_first() and (folder / "report.json").is_file())):
        return None
    report = read_json(folder / "report.json")
    expected = experiment.provenance(experiment.config.train.epochs)
    same = ("config_hash", "fingerprints", "correction", "versions", "task_file", "epoch")
    now = json.loads(json.dumps({key: expected[key] for key in same}))
    then = {key: report.get("provenance", {}).get(key) for key in now}
    return report if then == now else None


def loud_only(say: Callable[[str], None]) -> Callable[[str], None]:
    """Runs within a run: their progress would hide the result, their warnings must not be hidden."""
    return lambda line: say(line) if "WARNING" in line else None
