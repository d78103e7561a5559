"""Grids of settings, as the config writes them."""

import copy
import json
from typing import Any

from ml_collections import ConfigDict

from demjax.checks import UserError, did_you_mean
from demjax.train.config import flatten


def as_grid(what: str, pairs: Any) -> dict[str, tuple]:
    """((key, (value, ...)), ...) as {key: values}.

    Raises:
      UserError: another form, a key named twice, no values, or a value named twice.
    """
    form = f'{what} is {pairs!r}: expected ((key, (value, ...)), ...), as (("task.l2", (0.1, 1.0)),)'
    if not isinstance(pairs, tuple | list):
        raise UserError(form)
    grid: dict[str, tuple] = {}
    for pair in pairs:
        whole = isinstance(pair, tuple | list) and len(pair) == 2
        if not whole or not isinstance(pair[0], str) or not isinstance(pair[1], tuple | list):
            raise UserError(form)
        key, values = pair
        if key in grid or not values or len({json.dumps(v) for v in values}) < len(values):
            raise UserError(f"{what} has {key!r} with {tuple(values)}: expected every key and every value once")
        grid[key] = tuple(values)
    return grid


def spelled_out(config: ConfigDict) -> ConfigDict:
    """`population = dict(seeds=5, learning_rate=(1e-3, 3e-3))` as seeds and settings with their full keys.

    Raises:
      UserError: a name that is the last of no key, or not of one only, of the optimiser and the task.
    """
    members = config.population.to_dict()
    pairs, seeds = members.pop("settings", ()), members.pop("seeds", 0)
    if members and not seeds:
        raise UserError(f"population has {', '.join(members)} and no seeds: expected seeds=N, 1 or more")
    keys = [key for key in flatten(config) if key.startswith(("optimizer.", "task."))]
    if members and not isinstance(pairs, tuple | list):
        as_grid("population.settings", pairs)
    names = {key.partition(".")[2]: key for key in keys}
    for name, values in members.items():
        full = [key for key in keys if key.partition(".")[2] == name]
        if len(full) != 1:
            hint = f"write {' or '.join(full)} in population.settings" if full else did_you_mean(name, names)
            raise UserError(f"population has {name!r}: expected the last name of one setting; {hint}")
        pairs = (*pairs, (full[0], tuple(values) if isinstance(values, tuple | list) else values))
    config = copy.deepcopy(config)
    config.population = ConfigDict({"seeds": seeds, "settings": pairs})
    return config
