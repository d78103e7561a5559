"""Many seeds x settings of one task as one program.

The members share data and program; each has its own state, batches and numbers of the loss. On a GPU or TPU they are
mapped side by side (vmap), on a CPU one after the other in one call (there, batched small products are slow), and
devices share them out. A member is trained as the same run alone on one device is.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from demjax.checks import UserError
from demjax.progress import duration
from demjax.tasks import Variables
from demjax.train.config import flatten
from demjax.train.data_cache import DataCache
from demjax.train.engine.placement import place_rows
from demjax.train.engine.state import TrainState
from demjax.train.evaluate import evaluate, options_of, tuned_options
from demjax.train.fit import look_at_data, loud_only
from demjax.train.parts import provenance_of
from demjax.train.report import make_report, table
from demjax.train.run_folder.checkpoint import Checkpoints
from demjax.train.run_folder.folder import claim, open_folder, write_json
from demjax.train.run_folder.stop import Preempted, stop
from demjax.train.sweep.grid import spelled_out
from demjax.train.sweep.replicas import (
    MEMBERS,
    Population,
    build_population,
    compile_population,
    initial_states,
    member_config,
    member_variables,
    with_padding,
)

Tuned = Mapping[str, Mapping[str, float]]


def train_population(
    config: ConfigDict,
    workdir: str | Path,
    *,
    devices: Sequence[jax.Device] | None = None,
    say: Callable[[str], None] = print,
    cache: DataCache | None = None,
) -> list[dict[str, Any]]:
    """Trains `population.seeds` seeds of every setting in `population.settings`; resumes like a single run.

    Every member gets the report it would have alone, in `workdir`/members/NNN; the table over seeds is that of
    `demjax.tables`. A member whose loss is no longer a number is left out, and named.

    Returns:
      The reports of the members.

    Raises:
      UserError: bad config or data; a setting in which members cannot differ; a closed-form task; no member left.
      Preempted: SIGTERM or Ctrl-C came; the state is saved.
    """
    return run_population(build_population(spelled_out(config), devices, cache), Path(workdir).expanduser(), say)


def run_population(population: Population, workdir: Path, say) -> list[dict[str, Any]]:
    """`train_population` for a population that is built."""
    started = time.perf_counter()
    config = population.experiment.config
    with open_folder(workdir) as folder:
        claim(folder, config)
        look_at_data(population.experiment, folder)
        checkpoints = Checkpoints(folder / "checkpoints", keep=config.train.keep_checkpoints)
        try:
            states, seconds = _train(population, folder, checkpoints, say)
        finally:
            checkpoints.close()
        tuned = _tuned(population, folder, say)
        return _report(population, states, tuned, seconds, folder, say, started)


def _train(population: Population, folder: Path, checkpoints: Checkpoints, say) -> tuple[TrainState, float]:
    """Epochs until the last one, or until asked to stop."""
    experiment, mesh = population.experiment, population.mesh
    config, task = experiment.config, experiment.task
    states, seconds = initial_states(population), 0.0
    restored = checkpoints.restore(states, experiment.identity, warn=say)
    if restored:
        states, seconds = restored.state, restored.meta["seconds"]
        say(f"{folder}: resuming after epoch {restored.step} of {config.train.epochs}")
    padded = {k: np.array(with_padding(list(v), population.padded)) for k, v in population.numbers.items()}
    numbers = jax.device_put(padded, NamedSharding(mesh, PartitionSpec(MEMBERS)))
    assert experiment.rows is not None
    rows = place_rows(experiment.rows, task.fields, mesh)
    constants = jax.device_put(dict(experiment.constants), NamedSharding(mesh, PartitionSpec()))
    first, epoch = int(states.calls[0]) + 1, compile_population(population)
    say(f"{task.name}: {len(population.members)} members on {mesh.size} devices, {config.train.epochs} epochs")
    began = time.perf_counter()
    for number in range(first, config.train.epochs + 1):
        if stop.requested_by:
            break
        begun = time.perf_counter()
        states, losses = epoch(states, numbers, rows, constants)
        means = np.asarray(losses["loss"]).mean(axis=1)[: len(population.members)]
        seconds += time.perf_counter() - begun
        left = (time.perf_counter() - began) / (number - first + 1) * (config.train.epochs - number)
        say(
            f"epoch {number}/{config.train.epochs} | loss {means.min():.5g} to {means.max():.5g} | eta {duration(left)}"
        )
        if number == config.train.epochs or number % config.train.checkpoint_every == 0 or stop.requested_by:
            checkpoints.save(number, states, experiment.identity | {"seconds": seconds, "epoch": number})
    checkpoints.wait()
    if (reached := int(states.calls[0])) < config.train.epochs:
        where = f"after epoch {reached}, saved in {folder}" if reached else "before the end of the first epoch"
        raise Preempted(f"stopped by {stop.name} {where}")
    return states, seconds


def _tuned(population: Population, folder: Path, say) -> list[Tuned] | None:
    """For each member, the options that its twin finds on the validation view."""
    if not population.experiment.calibrates:
        return None
    say("calibrating on validation classes")
    try:
        reports = run_population(population.twin(), folder / "validation", say=loud_only(say))
    except UserError as lost:  # what is trained is reported all the same
        say(f"WARNING: no calibration: {lost}")
        return None
    metrics = {(r["config"]["seed"], _setting(r["config"], population)): r["metrics"] for r in reports}
    of_members = [metrics.get((m.seed, _setting(m.setting, population)), {}) for m in population.members]
    return [tuned_options(population.experiment.task, m) for m in of_members]  # {} for one that diverged


def _setting(config: Mapping[str, Any], population: Population) -> str:
    """The numbers in which members differ, as a key; 1 and 1.0 are one."""
    return json.dumps([float(config[key]) for key, _ in population.experiment.config.population.settings])


def _report(
    population: Population,
    states: TrainState,
    tuned: list[Tuned] | None,
    seconds: float,
    folder: Path,
    say,
    started: float,
) -> list[dict[str, Any]]:
    """The reports of all members whose variables are finite."""
    reports, lost = [], []
    for i, variables in member_variables(population, states):
        member = population.members[i]
        if not all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(variables.params))):
            lost.append(f"seed {member.seed} {member.setting or ''}".strip())
            continue
        report = _report_of(population, i, variables, tuned[i] if tuned else None, seconds, started)
        place = folder / MEMBERS / f"{i:03d}"
        place.mkdir(parents=True, exist_ok=True)
        write_json(place / "config.json", report["config"])
        write_json(place / "report.json", report)
        reports.append(report)
        shown = table(report, population.experiment.task.protocols)
        say(f"member {i + 1}/{len(population.members)}, seed {member.seed} {member.setting or ''}\n{shown}")
    _say_lost(lost, reports, say)
    return reports


def _report_of(
    population: Population, i: int, variables: Variables, tuned: Tuned | None, seconds: float, started: float
) -> dict[str, Any]:
    experiment = population.experiment
    config, data = member_config(experiment.config, population.members[i]), experiment.dataset
    begun = time.perf_counter()
    evaluation = evaluate(experiment.task, variables, data, options_of(config, tuned))
    return make_report(
        config=json.loads(json.dumps(flatten(config))),
        evaluation=evaluation,
        protocols=experiment.task.protocols,
        seconds={
            "train": seconds / len(population.members),
            "evaluate": time.perf_counter() - begun,
            "total": time.perf_counter() - started,
        },
        provenance=experiment.provenance(config.train.epochs) | provenance_of(config),
        bayes=data.bayes,
        best_on_test=None,
    )


def _say_lost(lost: Iterable[str], reports: list, say) -> None:
    if names := list(lost):
        say(f"WARNING: the parameters of {len(names)} members are not finite, they are left out: {'; '.join(names)}")
    if not reports:
        raise UserError("no member of the population has finite parameters: lower optimizer.learning_rate")
