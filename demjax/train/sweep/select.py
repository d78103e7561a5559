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
from demjax.data.files import read_json
from demjax.protocols import default_options
from demjax.train.config import config_hash, flatten
from demjax.train.data_cache import DataCache
from demjax.train.epochs import TrainingDiverged
from demjax.train.experiment import build
from demjax.train.fit import loud_only, train_and_evaluate
from demjax.train.report import read_records
from demjax.train.run_folder.folder import write_json
from demjax.train.sweep.grid import as_grid, spelled_out
from demjax.train.sweep.population import train_population
from demjax.train.sweep.replicas import build_population

FOLDS = ("val", "val2", "val3")
AUTO = "auto"
SELECTABLE = ("task", "optimizer", "train", "data")


def select(
    config: ConfigDict, workdir: str | Path, *, say: Callable[[str], None] = print, cache: DataCache | None = None
) -> dict[str, Any]:
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
    cache, settings = cache or DataCache(), list(_settings(config))
    if ".npz" in config.data.semantics:
        say("WARNING: class vectors that were learned on trainval have seen the validation classes: expect optimism")
    for setting in settings:  # mistakes before the first hour is spent
        objective = _objective(_on_validation(config, setting, 0, "val"), cache)
    config.select.objective = objective
    tried = []
    for number, setting in enumerate(settings, start=1):
        say(f"setting {number}/{len(settings)}: {' '.join(_flags(setting))}")
        tried.append(_try(config, setting, workdir / f"{number:03d}", say, cache))
    if all(row["value"] is None for row in tried):
        raise UserError(f"all {len(tried)} settings of select.grid diverged: lower optimizer.learning_rate in the grid")
    winner = max((row for row in tried if row["value"] is not None), key=lambda row: row["value"])
    selection = {"winner": winner, "objective": objective, **question(config), "tried": tried}
    write_json(workdir / "selection.json", selection)
    say(f"selected: {' '.join(_flags(winner['setting']))} --config.train.epochs={winner['epochs']}")
    return selection


def _objective(config: ConfigDict, cache: DataCache) -> str:
    """The metric to select by; `auto` is the first objective of the last protocol of the task that has one.

    Raises:
      UserError: what does not fit in the config; a metric that is no objective of the task.
    """
    task = build(config, cache=cache).task
    objectives = [p.objectives for p in task.protocols if p.objectives]
    if not objectives:
        raise UserError(f"the protocols of task {task.name} have no objective: there is nothing to select by")
    if config.select.objective == AUTO:
        return objectives[-1][0]
    known = dict.fromkeys(metric for metrics in objectives for metric in metrics)
    choose(f"select.objective, for task {task.name},", config.select.objective, known)
    return config.select.objective


def _try(config: ConfigDict, setting: dict[str, Any], folder: Path, say, cache: DataCache) -> dict[str, Any]:
    """All runs of a setting, and how good it is; a setting that diverges has lost."""
    objective, curves = config.select.objective, []
    for fold, seed in itertools.product(FOLDS[: config.select.folds], range(config.select.seeds)):
        run_folder = folder.with_name(f"{folder.name}-seed{seed}{fold.removeprefix('val')}")
        try:
            train_and_evaluate(_on_validation(config, setting, seed, fold), run_folder, say=loud_only(say), cache=cache)
        except TrainingDiverged as lost:
            say(f"  {lost}")
            return {"setting": setting, "epochs": 0, "value": None, "curve": []}
        curves.append(_curve(run_folder, objective))
    curve = np.mean(curves, axis=0)
    epochs = _best_epoch(curve, setting.get("optimizer.schedule", config.optimizer.schedule))
    value = float(curve[epochs - 1])
    say(f"  {objective} {100 * value:.1f} after epoch {epochs} of {len(curve)}")
    return {"setting": setting, "epochs": epochs, "value": value, "curve": curve.tolist()}


def question(config: ConfigDict) -> dict[str, Any]:
    """What a selection depends on; the result of another one may not be used."""
    return {
        "seeds": config.select.seeds,
        "folds": list(FOLDS[: config.select.folds]),
        "settings": json.loads(json.dumps(list(_settings(config)))),
        "config_hash": config_hash(config),
    }


def finished(config: ConfigDict, folder: Path) -> dict[str, Any] | None:
    """What selection.json of a selection finished in `folder` holds; None where there is none.

    Raises:
      UserError: it was asked another question.
    """
    file = folder / "selection.json"
    if not file.is_file():
        return None
    selection, asked = read_json(file), question(config)
    differing = [key for key, value in asked.items() if selection.get(key) != value]
    if config.select.objective not in (AUTO, selection.get("objective")):
        differing.insert(0, "objective")
    if differing:
        raise UserError(f"{file} was selected with other {listed(differing)}: choose another --workdir or remove it")
    return selection


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
    workdir, config, cache = Path(workdir).expanduser(), spelled_out(config), DataCache()
    for setting in _settings(config):
        _check_winner(config, setting, cache)
    winner = select(config, workdir, say=say, cache=cache)["winner"]
    best = _with(config, winner["setting"])
    best.train.epochs = winner["epochs"]
    if best.population.seeds:
        return train_population(best, workdir / "best", say=say, cache=cache)[0]
    return train_and_evaluate(best, workdir / "best", say=say, cache=cache)


def _check_winner(config: ConfigDict, setting: dict[str, Any], cache: DataCache) -> None:
    """Every setting must train and evaluate as the config says: any of them may win."""
    best = _with(config, setting)
    try:
        build_population(best, None, cache) if best.population.seeds else build(best, cache=cache)
    except UserError as mistake:
        raise UserError(f"select.grid: {' '.join(_flags(setting))}: {mistake}") from None


def _on_validation(config: ConfigDict, setting: dict[str, Any], seed: int, fold: str) -> ConfigDict:
    changed = _with(config, setting)
    changed.data.fold, changed.seed, changed.evaluate.every = fold, seed, 1
    changed.population = ConfigDict({"seeds": 0, "settings": ()})
    changed.evaluate.update(correction="", **default_options())  # no objective reads them
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
