"""Selection on validation classes: every setting of a grid, on a view of the data that has no test image."""

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from demjax.checks import UserError, choose, did_you_mean, listed
from demjax.train.config import as_grid, config_hash, flatten, spelled_out
from demjax.train.evaluate import METRICS, ON_VALIDATION
from demjax.train.loop import loud_only, train_and_evaluate
from demjax.train.members import build_population
from demjax.train.population import train_population
from demjax.train.report import read_records
from demjax.train.run import build, check_twin, keeping_datasets
from demjax.train.training import TrainingDiverged
from demjax.train.workdir import write_json

FOLDS = ("val", "val2", "val3")
SELECTABLE = ("task", "optimizer", "train", "data")
OBJECTIVES = tuple(m for m in (*METRICS, *ON_VALIDATION) if m not in ("hubness/n1_skewness", "gzsl/best_penalty"))


def select(config: ConfigDict, workdir: str | Path, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Trains every setting of `config.select.grid` on the validation view; picks setting and epoch.

    All combinations of the grid, or `select.samples` of them drawn at random. Every epoch is evaluated, so the number
    of epochs is selected with the rest: the (setting, epoch) with the best mean of `select.objective` over
    `select.seeds` seeds and `select.folds` folds of held-out classes wins, the earlier epoch on ties. Where the
    learning rate follows a schedule only the last epoch counts: a shorter run would be another schedule. All runs keep
    their own folder below `workdir` and resume like any other.

    Returns:
      What selection.json holds: the winner, and every setting with its curve over the epochs.

    Raises:
      UserError: an empty grid, a key or objective that does not exist, a value that a setting cannot have.
    """
    workdir, config = Path(workdir).expanduser(), spelled_out(config)
    choose("select.objective", config.select.objective, dict.fromkeys(OBJECTIVES))
    settings = list(_settings(config))
    if ".npz" in config.data.semantics:
        say("WARNING: class vectors that were learned on trainval have seen the validation classes: expect optimism")
    with keeping_datasets():
        for setting in settings:  # mistakes before the first hour is spent
            _check(_on_validation(config, setting, 0, "val"))
        tried = []
        for number, setting in enumerate(settings, start=1):
            say(f"setting {number}/{len(settings)}: {' '.join(_flags(setting))}")
            tried.append(_try(config, setting, workdir / f"{number:03d}", say))
    if all(row["value"] is None for row in tried):
        raise UserError(f"all {len(tried)} settings of select.grid diverged: lower optimizer.learning_rate in the grid")
    winner = max((row for row in tried if row["value"] is not None), key=lambda row: row["value"])
    selection = {"winner": winner, **question(config), "tried": tried}
    write_json(workdir / "selection.json", selection)
    say(f"selected: {' '.join(_flags(winner['setting']))} --config.train.epochs={winner['epochs']}")
    return selection


def _check(config: ConfigDict) -> None:
    task = build(config).task
    protocol = config.select.objective.partition("/")[0]
    if protocol not in task.protocols:
        raise UserError(
            f"select.objective is {config.select.objective!r}, task {task.name} has no {protocol} metrics: try zsl/top1"
        )


def _try(config: ConfigDict, setting: dict[str, Any], folder: Path, say) -> dict[str, Any]:
    """All runs of a setting, and how good it is; a setting that diverges has lost."""
    objective, curves = config.select.objective, []
    for fold, seed in itertools.product(FOLDS[: config.select.folds], range(config.select.seeds)):
        own = folder.with_name(f"{folder.name}-seed{seed}{fold.removeprefix('val')}")
        try:
            train_and_evaluate(_on_validation(config, setting, seed, fold), own, say=loud_only(say))
        except TrainingDiverged as lost:
            say(f"  {lost}")
            return {"setting": setting, "epochs": 0, "value": None, "curve": []}
        curves.append(_curve(own, objective))
    curve = np.mean(curves, axis=0)
    epochs = _best_epoch(curve, setting.get("optimizer.schedule", config.optimizer.schedule))
    value = float(curve[epochs - 1])
    say(f"  {objective} {100 * value:.1f} after epoch {epochs} of {len(curve)}")
    return {"setting": setting, "epochs": epochs, "value": value, "curve": curve.tolist()}


def question(config: ConfigDict) -> dict[str, Any]:
    """What a selection was asked: an answer to another question is of no use."""
    return {
        "objective": config.select.objective,
        "seeds": config.select.seeds,
        "folds": list(FOLDS[: config.select.folds]),
        "settings": json.loads(json.dumps(list(_settings(config)))),
        "config_hash": config_hash(config),
    }


def answered(config: ConfigDict, folder: Path) -> dict[str, Any] | None:
    """The winner of a selection finished in `folder`; None where there is none.

    Raises:
      UserError: it was asked another question.
    """
    file = folder / "selection.json"
    if not file.is_file():
        return None
    found, asked = json.loads(file.read_text()), question(config)
    if differing := [key for key, value in asked.items() if found.get(key) != value]:
        raise UserError(f"{file} was selected with other {listed(differing)}: choose another --workdir or remove it")
    return found["winner"]


def _best_epoch(curve: np.ndarray, schedule: str) -> int:
    return int(curve.argmax()) + 1 if schedule == "constant" else len(curve)


def _flags(setting: dict[str, Any]) -> list[str]:
    return [f"--config.{key}={value}" for key, value in setting.items()]


def _settings(config: ConfigDict) -> Iterator[dict[str, Any]]:
    grid, known = as_grid("select.grid", config.select.grid), flatten(config)
    if not grid:
        raise UserError("select.grid is empty: give it ((key, (value, ...)), ...) in the config file")
    for key in grid:
        if key not in known:
            raise UserError(f"select.grid has an unknown key {key!r}: {did_you_mean(key, known)}")
        if key.partition(".")[0] not in SELECTABLE or key == "data.fold":
            raise UserError(f"select.grid has {key!r}, which is not to be selected: expected {', '.join(SELECTABLE)}")
    every = list(itertools.product(*grid.values()))
    if 0 < config.select.samples < len(every):
        drawn = np.random.default_rng(config.seed).choice(len(every), config.select.samples, replace=False)
        every = [every[i] for i in np.sort(drawn)]
    for values in every:
        yield dict(zip(grid, values, strict=True))


def select_and_train(config: ConfigDict, workdir: str | Path, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """`select`, then the winner trained on all of trainval, in `workdir`/best; its report.

    With `population.seeds` as many seeds of it are trained, and the report is that of the first.

    Raises:
      UserError: as `select`.
    """
    workdir, config = Path(workdir).expanduser(), spelled_out(config)
    with keeping_datasets():
        for setting in _settings(config):
            _check_winner(config, setting)
        winner = select(config, workdir, say=say)["winner"]
        best = _with(config, winner["setting"])
        best.train.epochs = winner["epochs"]
        if best.population.seeds:
            return train_population(best, workdir / "best", say=say)[0]
        return train_and_evaluate(best, workdir / "best", say=say)


def _check_winner(config: ConfigDict, setting: dict[str, Any]) -> None:
    """Whoever wins must be able to be trained and evaluated as it was asked for."""
    best = _with(config, setting)
    try:
        check_twin(build_population(best, None).run if best.population.seeds else build(best))
    except UserError as mistake:
        raise UserError(f"select.grid: {' '.join(_flags(setting))}: {mistake}") from None


def _on_validation(config: ConfigDict, setting: dict[str, Any], seed: int, fold: str) -> ConfigDict:
    changed = _with(config, setting)
    changed.data.fold, changed.seed, changed.evaluate.every = fold, seed, 1
    changed.population = ConfigDict({"seeds": 0, "settings": ()})
    changed.evaluate.update(correction="", hits=(), captions=())  # no objective reads them
    changed.select.grid = ()  # a folder belongs to its setting, not to the grid around it
    changed.train.checkpoint_every = changed.train.epochs
    return changed


def _with(config: ConfigDict, setting: dict[str, Any]) -> ConfigDict:
    changed = copy.deepcopy(config)
    try:
        changed.update_from_flattened_dict(setting)
    except TypeError as error:  # ml_collections: a value of another type than the default
        raise UserError(f"select.grid: {' '.join(_flags(setting))}: {error}") from None
    return changed


def _curve(folder: Path, objective: str) -> list[float]:
    return [record[objective] for record in read_records(folder)]
