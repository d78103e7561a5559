"""Selection on validation classes: every setting of a grid, on a view of the data that has no test image."""

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from demjax.checks import UserError, choose, did_you_mean
from demjax.train.config import flatten
from demjax.train.loop import train_and_evaluate
from demjax.train.workdir import write_json


def select(config: ConfigDict, workdir: str | Path, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Trains every setting of `config.select.grid` on the validation view; picks setting and epoch.

    All runs keep their own folder below `workdir` and resume like any other. The number of epochs is
    selected with the rest: each epoch is evaluated, the best mean over seeds of `select.objective` wins.

    Returns:
      What selection.json holds: the winner, and every setting with its best epoch.

    Raises:
      UserError: an empty grid, or a key or objective that does not exist.
    """
    settings = list(_settings(config))
    ranked: list[dict[str, Any]] = []
    for number, setting in enumerate(settings, start=1):
        told = ", ".join(f"{k}={v}" for k, v in setting.items())
        say(f"setting {number}/{len(settings)}: {told}")
        curves = []
        for seed in range(config.select.seeds):
            folder = Path(workdir) / f"{number:03d}-seed{seed}"
            train_and_evaluate(_on_validation(config, setting, seed), folder, say=lambda line: None)
            curves.append(_curve(folder, config.select.objective))
        mean = np.mean(curves, axis=0)
        best = int(np.argmax(mean))
        ranked.append({"setting": setting, "epochs": best + 1, config.select.objective: float(mean[best])})
        say(f"  {config.select.objective} {100 * mean[best]:.1f} after epoch {best + 1} of {len(mean)}")
    ranked.sort(key=lambda row: -row[config.select.objective])
    selection: dict[str, Any] = {"winner": ranked[0], "ranked": ranked, "seeds": config.select.seeds, "fold": "val"}
    write_json(Path(workdir) / "selection.json", selection)
    flags = [f"--config.{k}={v}" for k, v in ranked[0]["setting"].items()]
    say(f"selected: {' '.join(flags)} --config.train.epochs={ranked[0]['epochs']}")
    return selection


def _settings(config: ConfigDict) -> Iterator[dict[str, Any]]:
    grid, known = dict(config.select.grid), flatten(config)
    if not grid:
        raise UserError("select.grid is empty: give it ((key, (value, ...)), ...) in the config file")
    for key in grid:
        if key not in known:
            raise UserError(f"select.grid has an unknown key {key!r}: {did_you_mean(key, known)}")
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _on_validation(config: ConfigDict, setting: dict[str, Any], seed: int) -> ConfigDict:
    changed = copy.deepcopy(config)
    changed.update_from_flattened_dict(setting)
    changed.data.fold, changed.seed, changed.evaluate.every = "val", seed, 1
    changed.select.grid = ()  # a folder belongs to its setting, not to the grid around it
    changed.train.checkpoint_every = changed.train.epochs
    return changed


def _curve(folder: Path, objective: str) -> list[float]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    choose("select.objective", objective, records[0])
    return [record[objective] for record in records]
