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
from demjax.train.checkpoint import Checkpoints
from demjax.train.config import flatten, spelled_out
from demjax.train.epoch import TrainState
from demjax.train.evaluate import evaluate
from demjax.train.loop import look_at_data
from demjax.train.members import (
    MEMBERS,
    Population,
    build_population,
    compile_population,
    initial_states,
    member_config,
    member_params,
    with_padding,
)
from demjax.train.report import make_report, table
from demjax.train.run import check_twin, options_of, provenance, validation_twin
from demjax.train.stop import Preempted, stop
from demjax.train.workdir import claim, open_workdir, write_json

PENALTIES = {"": "gzsl/best_penalty", "corrected": "corrected/gzsl/best_penalty"}


def train_population(
    config: ConfigDict,
    workdir: str | Path,
    *,
    devices: Sequence[jax.Device] | None = None,
    say: Callable[[str], None] = print,
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
    started = time.perf_counter()
    config = spelled_out(config)
    population = build_population(config, devices)
    check_twin(population.run)
    if (kind := population.run.placement.kind) != "replicated":
        raise UserError(f"population.seeds with rows that are {kind}: every member reads all of them; train plain runs")
    with open_workdir(workdir) as folder:
        claim(folder, config)
        look_at_data(population.run, folder)
        checkpoints = Checkpoints(folder / "checkpoints", keep=config.train.keep_checkpoints)
        try:
            states, seconds = _train(population, folder, checkpoints, say)
        finally:
            checkpoints.close()
        penalties = _penalties(population, folder, say)
        return _report(population, states, penalties, seconds, folder, say, started)


def _train(population: Population, folder: Path, checkpoints: Checkpoints, say) -> tuple[TrainState, float]:
    """Epochs until the last one, or until asked to stop."""
    run, config, mesh = population.run, population.run.config, population.mesh
    states, seconds = initial_states(population), 0.0
    restored = checkpoints.restore(states, run.identity, warn=say)
    if restored:
        states, seconds = restored.state, restored.meta["seconds"]
        say(f"{folder}: resuming after epoch {restored.step} of {config.train.epochs}")
    own, shared = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((MEMBERS,), ()))
    padded = {k: np.array(with_padding(list(v), population.padded)) for k, v in population.numbers.items()}
    numbers = jax.device_put(padded, own)
    rows = jax.device_put({name: np.asarray(run.rows[name]) for name in run.task.fields}, shared)
    tables = jax.device_put(dict(run.task.tables), shared)
    first, epoch = int(states.epoch[0]) + 1, compile_population(population)
    say(f"{run.task.name}: {len(population.members)} members on {mesh.size} devices, {config.train.epochs} epochs")
    began = time.perf_counter()
    for number in range(first, config.train.epochs + 1):
        if stop.requested_by:
            break
        begun = time.perf_counter()
        states, losses = epoch(states, numbers, rows, tables)
        means = np.asarray(losses["loss"]).mean(axis=1)[: len(population.members)]
        seconds += time.perf_counter() - begun
        left = (time.perf_counter() - began) / (number - first + 1) * (config.train.epochs - number)
        say(
            f"epoch {number}/{config.train.epochs} | loss {means.min():.5g} to {means.max():.5g} | eta {duration(left)}"
        )
        if number == config.train.epochs or number % config.train.checkpoint_every == 0 or stop.requested_by:
            checkpoints.save(number, states, run.identity | {"seconds": seconds})
    checkpoints.wait()
    if (reached := int(states.epoch[0])) < config.train.epochs:
        where = f"after epoch {reached}, saved in {folder}" if reached else "before the end of the first epoch"
        raise Preempted(f"stopped by {stop.name} {where}")
    return states, seconds


def _penalties(population: Population, folder: Path, say) -> list[dict[str, float]] | None:
    """For each member, the penalties its twin finds on validation classes."""
    run = population.run
    if not run.config.evaluate.calibrate or run.dataset.is_validation_view:
        return None
    twin = validation_twin(run.config)
    say("calibrating on validation classes")
    devices = list(population.mesh.devices.flat)
    reports = train_population(twin, folder / "validation", devices=devices, say=lambda line: None)
    found = {(r["config"]["seed"], _setting(r["config"], population)): r["metrics"] for r in reports}
    wanted = [found.get((m.seed, _setting(m.setting, population)), {}) for m in population.members]  # {}: it diverged
    return [{kind: metrics[key] for kind, key in PENALTIES.items() if key in metrics} for metrics in wanted]


def _setting(config: Mapping[str, Any], population: Population) -> str:
    """The numbers in which members differ, as a key; 1 and 1.0 are one."""
    return json.dumps([float(config[key]) for key, _ in population.run.config.population.settings])


def _report(
    population: Population,
    states: TrainState,
    penalties: list[dict[str, float]] | None,
    seconds: float,
    folder: Path,
    say,
    started: float,
) -> list[dict[str, Any]]:
    run, reports, lost = population.run, [], []
    for i, params in member_params(population, states):
        member = population.members[i]
        config = member_config(run.config, member)
        if not all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(params))):
            lost.append(f"seed {member.seed} {member.setting or ''}".strip())
            continue
        begun = time.perf_counter()
        penalty = penalties[i] if penalties else None
        evaluation = evaluate(run.task, params, run.dataset, options_of(config, penalty))
        own = folder / MEMBERS / f"{i:03d}"
        own.mkdir(parents=True, exist_ok=True)
        write_json(own / "config.json", json.loads(json.dumps(flatten(config))))
        report = make_report(
            config=json.loads(json.dumps(flatten(config))),
            evaluation=evaluation,
            seconds={
                "train": seconds / len(population.members),
                "evaluate": time.perf_counter() - begun,
                "total": time.perf_counter() - started,
            },
            provenance=provenance(run._replace(config=config), config.train.epochs),
            bayes=run.dataset.bayes,
            best_on_test=None,
        )
        write_json(own / "report.json", report)
        reports.append(report)
        say(f"member {i + 1}/{len(population.members)}, seed {member.seed} {member.setting or ''}\n{table(report)}")
    _tell_lost(lost, reports, say)
    return reports


def _tell_lost(lost: Iterable[str], reports: list, say) -> None:
    if names := list(lost):
        say(f"WARNING: the parameters of {len(names)} members are not finite, they are left out: {'; '.join(names)}")
    if not reports:
        raise UserError("no member of the population has finite parameters: lower optimizer.learning_rate")
