"""train_and_evaluate: resume, epochs, evaluate, save, report. Runs any task, names none."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from demjax import processes
from demjax.checks import UserError
from demjax.data import fingerprints
from demjax.data.lazy_rows import Deferred
from demjax.mesh import replicate
from demjax.train import memory, training
from demjax.train.announce import announce, silent
from demjax.train.checkpoint import Checkpoints
from demjax.train.config import flatten
from demjax.train.epoch import TrainState, init_state
from demjax.train.evaluate import evaluate
from demjax.train.picture import draw_to
from demjax.train.report import best_evaluated, make_report, table, write_records
from demjax.train.run import Run, as_placed, build, check_twin, options_of, provenance, validation_twin
from demjax.train.workdir import LOCK, claim, note_placement, open_workdir, write_json

OWN_KEYS = ("data.dir", "data.descriptions", "task.word_vectors", "profile")  # of a process
SHARED_SECONDS = 20
SURVEY = "survey.json"


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | Path,
    *,
    devices: Sequence[jax.Device] | None = None,
    say: Callable[[str], None] = print,
    train: bool = True,
) -> dict[str, Any]:
    """Trains to the last epoch, from where `workdir` stands, then evaluates; returns what report.json holds.

    Args:
      config: `train.config.default_config()`, changed.
      workdir: one folder is one run. The same call again resumes; a finished run is only evaluated.
      devices: to train on; default all local ones. May differ from the devices of earlier sessions.
      say: receives each line meant for people.
      train: False evaluates the newest checkpoint as it is.

    Raises:
      UserError: bad config or data, a workdir of another run, a loss that is not finite.
      Preempted: SIGTERM or Ctrl-C came; the state is saved.
    """
    started = time.perf_counter()
    if not processes.is_first():
        say = silent
    memory.agree()
    processes.check_alike("settings", _settings(config, workdir, train))
    with contextlib.ExitStack() as held:
        with processes.together():
            config = as_placed(config, Path(workdir).expanduser())
            run = build(config, devices)
            if not train and not run.task.solve and not (Path(workdir).expanduser() / "checkpoints").is_dir():
                raise UserError(
                    f"{workdir} has no checkpoint to evaluate: train first (--mode=train), or mend --workdir"
                )
            check_twin(run)
            folder = _open(workdir, run, held)
        lock = processes.from_first((folder / LOCK).read_text() if processes.is_first() else "")
        with processes.together():
            _check_shared(folder, lock)
        look_at_data(run, folder)
        processes.check_alike("data", _digest([run.identity, run.placement]))
        checkpoints = Checkpoints(folder / "checkpoints", keep=config.train.keep_checkpoints)
        try:
            return _run(run, folder, checkpoints, say, train, started)
        finally:
            checkpoints.close()


def _settings(config: ConfigDict, workdir: str | Path, train: bool) -> str:
    """What all processes must have been started with: everything but where the data of each lie."""
    flat = {key: value for key, value in flatten(config).items() if key not in OWN_KEYS}
    return _digest([flat, str(Path(workdir).expanduser().resolve()), train])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _open(workdir: str | Path, run: Run, held: contextlib.ExitStack) -> Path:
    """The folder of the run; process 0 holds it for all."""
    if not processes.is_first():
        return Path(workdir).expanduser()
    folder = held.enter_context(open_workdir(workdir))
    claim(folder, run.config)
    note_placement(folder, run.placement)
    return folder


def look_at_data(run: Run, folder: Path) -> None:
    """Reads a mapped file: for its digest once for all starts of the run, as the workdir keeps it; for class sums.

    Raises:
      UserError: a row that holds NaN or Inf.
      Preempted: asked to stop meanwhile.
    """
    training.stop_loading()
    features = run.dataset.features
    if not isinstance(features, np.memmap):
        return
    fingerprints.load_known(folder / SURVEY)
    fingerprints.fingerprint_file(features, training.stop_loading)
    with processes.together():
        if processes.is_first():
            write_json(folder / SURVEY, fingerprints.known(features))
    for rows in run.rows.values():
        if isinstance(rows, Deferred):
            rows.made(training.stop_loading)


def _check_shared(folder: Path, lock: str) -> None:
    """Raises a UserError where the workdir is another folder than that of process 0, of the same name."""
    end = time.monotonic() + SHARED_SECONDS
    while jax.process_count() > 1 and not ((folder / LOCK).is_file() and (folder / LOCK).read_text() == lock):
        if time.monotonic() > end:  # file systems of a network may show late what another machine has written
            raise UserError(f"--workdir={folder} is not that of process 0: expected one folder that all processes see")
        time.sleep(0.2)


def _run(run: Run, folder: Path, checkpoints: Checkpoints, say, train: bool, started: float) -> dict[str, Any]:
    params, epoch, seconds = (_solved if run.task.solve else _trained)(run, folder, checkpoints, say, train)
    penalty = _penalty(run, folder, say)
    begun = time.perf_counter()
    options = options_of(run.config, penalty)
    evaluation = evaluate(run.task, params, run.dataset, options, run.mesh, training.stop_evaluating)
    done = time.perf_counter()
    report = make_report(
        config=json.loads(json.dumps(flatten(run.config))),
        evaluation=evaluation,
        seconds={"train": seconds, "evaluate": done - begun, "total": done - started},
        provenance=provenance(run, epoch),
        bayes=run.dataset.bayes,
        best_on_test=None if run.task.solve or run.dataset.is_validation_view else best_evaluated(folder, epoch),
    )
    with processes.together():
        if processes.is_first():
            _publish(run, folder, report, say)
    return report


def _publish(run: Run, folder: Path, report: dict[str, Any], say) -> None:
    if run.task.solve:
        write_records(folder, [{"epoch": report["provenance"]["epoch"]} | report["metrics"]])
    write_json(folder / "report.json", report)
    say(table(report))
    picture = None if run.dataset.is_validation_view else draw_to(folder, report)  # of hundreds nobody looks at one
    say(f"report: {folder / 'report.json'}" + (f", picture: {picture}" if picture else ""))


def _trained(run: Run, folder: Path, checkpoints: Checkpoints, say, train: bool) -> tuple[Any, int, float]:
    """Parameters, epochs and seconds of training, from where the folder stands."""
    state, seconds = _start(run, folder, checkpoints, say, train)
    if int(state.epoch) == 0 and not train:
        raise UserError(f"{folder} has no checkpoint to evaluate: train first (--mode=train)")
    if train and int(state.epoch) < run.calls:
        announce(run, state.params, say)
        options = options_of(run.config)
        state, seconds = training.train(run, state, seconds, folder, checkpoints, say, options)
    return state.params, int(state.epoch) // run.placement.chunks, seconds


def _solved(run: Run, folder: Path, checkpoints: Checkpoints, say, train: bool) -> tuple[Any, int, float]:
    """A closed form is solved anew each time: there is nothing to resume."""
    del folder, checkpoints, train
    begun = time.perf_counter()
    assert run.task.solve is not None
    params = jax.block_until_ready(run.task.solve())
    announce(run, params, say)
    return params, run.config.train.epochs, time.perf_counter() - begun


def _penalty(run: Run, folder: Path, say) -> dict[str, float] | None:
    """Penalties on seen classes, best on the validation classes for a twin of this run that has not seen them."""
    if not run.config.evaluate.calibrate or run.dataset.is_validation_view:
        return None
    twin = validation_twin(run.config)
    say("calibrating on validation classes")
    found = train_and_evaluate(twin, folder / "validation", devices=list(run.mesh.devices.flat), say=loud_only(say))
    kinds = {"": "gzsl/best_penalty", "corrected": "corrected/gzsl/best_penalty"}
    return {kind: found["metrics"][key] for kind, key in kinds.items() if key in found["metrics"]}


def loud_only(say: Callable[[str], None]) -> Callable[[str], None]:
    """Runs within a run: their progress would hide the result, their warnings must not be hidden."""
    return lambda line: say(line) if "WARNING" in line else None


def _start(run: Run, folder: Path, checkpoints: Checkpoints, say, train: bool) -> tuple[TrainState, float]:
    """The newest good state of the workdir, else a fresh one; and the seconds trained so far."""
    state = replicate(init_state(run.task, run.optimizer, run.config.seed), run.mesh)
    restored = checkpoints.restore(state, run.identity, warn=say, move=train)
    if restored is None:
        return state, 0.0
    say(f"{folder}: resuming after {run.place(restored.step)} of {run.config.train.epochs}")
    return restored.state, restored.meta["seconds"]
