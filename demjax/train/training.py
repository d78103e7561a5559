"""From a state to the last epoch: compiled calls, their losses, what is told and what is saved."""

import time
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from demjax import processes
from demjax.checks import UserError
from demjax.mesh import replicate
from demjax.train.answers import Options
from demjax.train.checkpoint import Checkpoints
from demjax.train.epoch import TrainState, compile_epoch
from demjax.train.evaluate import evaluate
from demjax.train.feed import Feed
from demjax.train.report import Reporter
from demjax.train.run import Run
from demjax.train.stop import Preempted, Timer, stop
from demjax.train.trace import Trace


class TrainingDiverged(UserError):
    """The loss is no longer a number. The last good checkpoint is untouched."""


def train(
    run: Run, state: TrainState, seconds: float, folder: Path, checkpoints: Checkpoints, say, options: Options
) -> tuple[TrainState, float]:
    """Epochs until the last one, or until asked to stop; every state that is saved has finite losses.

    Raises:
      TrainingDiverged: a loss or parameter is not finite; the last good checkpoint stays.
      Preempted: asked to stop, here or in another process; the state is saved.
    """
    config, chunks, task = run.config, run.placement.chunks, run.task
    reporter = Reporter(folder, config.train.epochs, chunks, tensorboard=config.log.tensorboard, say=say)
    reporter.rewind(int(state.epoch))
    saving = Timer(config.train.checkpoint_minutes)
    call = compile_epoch(task, run.optimizer, run.mesh, run.plan, run.placement.kind != "replicated")
    tables = replicate(dict(task.tables), run.mesh)
    saved = int(state.epoch)
    if _due(saved, config.evaluate.every, run) and not reporter.is_evaluated(saved):  # stopped in the middle of it
        reporter.amend(saved, _evaluated(run, state.params, options))
    trace = Trace(config.profile, run.calls - saved, say)
    try:
        with Feed(run.placement, run.rows, task.fields, run.mesh, state.key) as feed:
            for number in range(saved + 1, run.calls + 1):
                asked, due = processes.any_of(bool(stop.requested_by), processes.is_first() and saving.is_due())
                if asked:
                    break
                begun = time.perf_counter()
                with trace.call():
                    state, losses = call(state, feed(number - 1), tables)
                    values = _mean_losses(losses, number, run, checkpoints)
                took = time.perf_counter() - begun
                seconds += took
                if _due(number, config.evaluate.every, run):
                    values |= _evaluated(run, state.params, options)
                # The line first: killed in between, the epoch is trained and told again; the other way round it
                # would be missing for ever.
                reporter.epoch(number, number * run.steps_per_call, took, values)
                if due or _due(number, config.train.checkpoint_every, run):
                    _check_finite(state.params, number, run, checkpoints)
                    checkpoints.save(number, state, run.identity | {"seconds": seconds})
                    saved = number
                    saving.restart()
        if (reached := int(state.epoch)) > saved:  # asked to stop between two checkpoints
            _check_finite(state.params, reached, run, checkpoints)
            checkpoints.save(reached, state, run.identity | {"seconds": seconds})
        checkpoints.wait()
    finally:
        trace.close()
        reporter.close()
    if reached < run.calls:
        where = f"after {run.place(reached)}, saved in {folder}" if reached else "before the end of the first epoch"
        raise Preempted(f"stopped by {stop.name} {where}")
    return state, seconds


def _evaluated(run: Run, params: Any, options: Options) -> dict[str, float]:
    """Metrics of an evaluation on the way; none if asked to stop: the state is saved, and evaluated when resumed."""
    try:
        return dict(evaluate(run.task, params, run.dataset, options, run.mesh, stop_evaluating).metrics)
    except Preempted:
        return {}


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
    if any(processes.any_of(bool(stop.requested_by))):
        raise Preempted(f"stopped by {stop.name} {when}")


def _due(number: int, every: int, run: Run) -> bool:
    """Whether something that is done every so many epochs, and at the end, is done after compiled call `number`."""
    return bool(every and number) and (number == run.calls or number % (every * run.placement.chunks) == 0)


def _mean_losses(losses: dict[str, jax.Array], number: int, run: Run, checkpoints: Checkpoints) -> dict[str, float]:
    """Waits for a compiled call; means over its steps. A loss that is not finite ends the run before it is saved."""
    host = jax.device_get(losses)
    bad = np.flatnonzero(~np.isfinite(host["loss"]))
    if len(bad):
        checkpoints.wait()
        step = (number - 1) * run.steps_per_call + int(bad[0]) + 1
        _diverged(f"loss is {host['loss'][bad[0]]} at step {step} ({run.place(number)})", checkpoints)
    return {f"train/{name}": float(np.mean(value, dtype=np.float64)) for name, value in host.items()}


def _check_finite(params: Any, number: int, run: Run, checkpoints: Checkpoints) -> None:
    """The loss of a step says nothing about its own update: after the last one only the parameters do."""
    if not _all_finite(params):
        checkpoints.wait()
        _diverged(f"parameters are not finite after {run.place(number)}", checkpoints)


@jax.jit
def _all_finite(params: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(params)]).all()


def _diverged(what: str, checkpoints: Checkpoints) -> NoReturn:
    with processes.together():  # all have seen it
        raise TrainingDiverged(
            f"{what}: lower optimizer.learning_rate or set optimizer.clip_norm; the last good checkpoint in "
            f"{checkpoints.folder} is kept"
        )
