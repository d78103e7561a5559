"""From a state to the last epoch: compiled calls, their losses, what is reported and what is saved."""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from demjax import distributed
from demjax.checks import UserError
from demjax.mesh import DATA_AXIS, replicate
from demjax.train.engine.epoch import compile_epoch
from demjax.train.engine.feed import Feed
from demjax.train.engine.placement import column_specs
from demjax.train.engine.state import TrainState
from demjax.train.evaluate import evaluate
from demjax.train.experiment import Experiment
from demjax.train.report import Reporter
from demjax.train.run_folder.checkpoint import Checkpoints
from demjax.train.run_folder.profile import Trace
from demjax.train.run_folder.stop import Preempted, Timer, stop


class TrainingDiverged(UserError):
    """The loss is no longer a number. The last good checkpoint is untouched."""


def compiled_calls(experiment: Experiment) -> Callable[[int], Callable]:
    """Number of a call, from 0 -> its compiled program; a new one where a group of parameters begins to train."""
    assert experiment.rows is not None
    specs: Any = None
    if experiment.placement.kind == "sharded":
        specs = column_specs(experiment.rows, experiment.task.fields)
    elif experiment.placement.kind == "streamed":
        specs = PartitionSpec(DATA_AXIS)  # of all columns: a chunk has its rows as they are

    @cache
    def program(frozen: frozenset[str], call: int) -> Callable:
        optimizer = experiment.optimizer(call)
        return compile_epoch(experiment.task, optimizer, experiment.mesh, experiment.plan, specs, frozen)

    phases: dict[frozenset[str], int] = {}
    return lambda call: program(experiment.frozen(call), phases.setdefault(experiment.frozen(call), call))


def train(
    experiment: Experiment, state: TrainState, seconds: float, folder: Path, checkpoints: Checkpoints, say
) -> tuple[TrainState, float]:
    """Epochs until the last one, or until asked to stop; every state that is saved has finite losses.

    The last epoch is not evaluated here: the final evaluation does that.

    Raises:
      TrainingDiverged: a loss or parameter is not finite; the last good checkpoint stays.
      Preempted: asked to stop, here or in another process; the state is saved.
    """
    config = experiment.config
    reporter = new_reporter(experiment, folder, say)
    session = _Session(experiment, checkpoints, reporter, seconds, saved=int(state.calls))
    trace = Trace(config.profile, experiment.total_calls - session.saved, say)
    try:
        reporter.rewind(session.saved)
        if _evaluates(experiment, session.saved) and not reporter.is_evaluated(session.saved):
            reporter.amend(session.saved, _metrics(experiment, state))  # it was stopped in the middle of that
        state = session.run(state, trace)
    finally:
        trace.close()
        reporter.close()
    if (reached := int(state.calls)) < experiment.total_calls:
        where = (
            f"after {experiment.where(reached)}, saved in {folder}" if reached else "before the end of the first epoch"
        )
        raise Preempted(f"stopped by {stop.name} {where}")
    return state, session.seconds


def new_reporter(experiment: Experiment, folder: Path, say) -> Reporter:
    """The reporter of a run."""
    config = experiment.config
    return Reporter(
        folder,
        config.train.epochs,
        experiment.placement.chunks,
        experiment.task.protocols,
        tensorboard=config.log.tensorboard,
        say=say,
    )


class _Session:
    """The calls of one session of a run, and how far they are saved."""

    def __init__(
        self, experiment: Experiment, checkpoints: Checkpoints, reporter: Reporter, seconds: float, saved: int
    ):
        self.experiment, self.checkpoints, self.reporter = experiment, checkpoints, reporter
        self.seconds, self.saved = seconds, saved
        self._clock = Timer(experiment.config.train.checkpoint_minutes)

    def run(self, state: TrainState, trace: Trace) -> TrainState:
        """All calls that are left, or those until the run is asked to stop."""
        experiment = self.experiment
        program = compiled_calls(experiment)
        constants = replicate(dict(experiment.constants), experiment.mesh)
        assert experiment.rows is not None
        with Feed(experiment.placement, experiment.rows, experiment.task.fields, experiment.mesh, state.key) as feed:
            for call in range(self.saved + 1, experiment.total_calls + 1):
                asked, due = distributed.any_of(
                    bool(stop.requested_by), distributed.is_first() and self._clock.is_due()
                )
                if asked:
                    break
                begun = time.perf_counter()
                with trace.call():
                    state, losses = program(call - 1)(state, feed(call - 1), constants)
                    values = self._mean_losses(losses, call)
                self._finish(state, call, values, time.perf_counter() - begun, due)
        if (reached := int(state.calls)) > self.saved:  # asked to stop between two checkpoints
            self._save(state, reached)
        self.checkpoints.wait()
        return state

    def _finish(self, state: TrainState, call: int, values: dict[str, float], took: float, due: bool) -> None:
        """The evaluation, the line and the checkpoint of a call."""
        experiment = self.experiment
        self.seconds += took
        if _evaluates(experiment, call):
            values |= _metrics(experiment, state)
        # The line first: killed in between, the epoch is trained and reported again; the other way round its line
        # would be missing for ever.
        self.reporter.epoch(call, call * experiment.plan.steps, took, values)
        if due or experiment.is_due(call, experiment.config.train.checkpoint_every):
            self._save(state, call)
            self._clock.restart()

    def _save(self, state: TrainState, call: int) -> None:
        """The loss of a step says nothing about its own update: after the last one only the variables do."""
        if not _all_finite(state.variables):
            self._diverged(f"parameters are not finite after {self.experiment.where(call)}")
        meta = {"seconds": self.seconds, "epoch": call // self.experiment.placement.chunks}
        self.checkpoints.save(call, state, self.experiment.identity | meta)
        self.saved = call

    def _mean_losses(self, losses: dict[str, jax.Array], call: int) -> dict[str, float]:
        """Waits for a compiled call; means over its steps. A loss that is not finite ends the run before a save."""
        host = jax.device_get(losses)
        bad = np.flatnonzero(~np.isfinite(host["loss"]))
        if len(bad):
            step = (call - 1) * self.experiment.plan.steps + int(bad[0]) + 1
            self._diverged(f"loss is {host['loss'][bad[0]]} at step {step} ({self.experiment.where(call)})")
        return {f"train/{name}": float(np.mean(value, dtype=np.float64)) for name, value in host.items()}

    def _diverged(self, what: str) -> NoReturn:
        self.checkpoints.wait()
        with distributed.raise_in_all():  # all have seen it
            raise TrainingDiverged(
                f"{what}: lower optimizer.learning_rate or set optimizer.clip_norm; the last good checkpoint in "
                f"{self.checkpoints.folder} is kept"
            )


def _evaluates(experiment: Experiment, call: int) -> bool:
    """Whether a call is followed by an evaluation on the way."""
    return call < experiment.total_calls and experiment.is_due(call, experiment.config.evaluate.every)


def _metrics(experiment: Experiment, state: TrainState) -> dict[str, float]:
    """Metrics of an evaluation on the way; none if asked to stop: the state is saved, and evaluated when resumed."""
    try:
        evaluation = evaluate(
            experiment.task,
            state.variables,
            experiment.dataset,
            experiment.options(),
            experiment.mesh,
            stop_evaluating,
        )
    except Preempted:
        return {}
    return dict(evaluation.metrics)


def stop_evaluating() -> None:
    """Ends an evaluation, in all processes, when one is asked to stop.

    Raises:
      Preempted: asked to stop.
    """
    _stop("while evaluating")


def stop_loading() -> None:
    """As `stop_evaluating`, before the training."""
    _stop("while loading the data")


def _stop(when: str) -> None:
    if any(distributed.any_of(bool(stop.requested_by))):
        raise Preempted(f"stopped by {stop.name} {when}")


@jax.jit
def _all_finite(variables: Any) -> jax.Array:
    numbers = [x for x in jax.tree.leaves(variables) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(x).all() for x in numbers]).all()
