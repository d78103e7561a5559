"""A finished run as it was: its config, data, task and newest parameters, for programs that use what it learned."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from demjax.checks import UserError
from demjax.mesh import replicate
from demjax.train.checkpoint import Checkpoints
from demjax.train.config import check_config, default_config, flatten
from demjax.train.epoch import init_state
from demjax.train.run import Run, as_placed, build


class Trained(NamedTuple):
    """A run, its newest parameters and the epochs they have seen."""

    run: Run
    params: Any
    epoch: int


def restore_run(workdir: str | Path, **moved: str) -> Trained:
    """The run in `workdir`; `moved` are files and folders that lie elsewhere now: dir, descriptions, word_vectors.

    Raises:
      UserError: no such run, nothing trained yet, other data than it was trained on.
    """
    folder = Path(workdir).expanduser()
    config = read_config(folder)
    for section, key in (("data", "dir"), ("data", "descriptions"), ("task", "word_vectors")):
        if moved.get(key):
            config[section][key] = moved[key]
    if config.population.seeds:
        raise UserError(f"{folder} holds a population: train one member alone, --config.population.seeds=0")
    if not (folder / "checkpoints").is_dir():
        raise UserError(
            f"{folder} has no checkpoint: train first, python -m demjax.main --config=... --workdir={folder}"
        )
    run = build(as_placed(config, folder))
    checkpoints = Checkpoints(folder / "checkpoints", keep=config.train.keep_checkpoints)
    try:
        state = replicate(init_state(run.task, run.optimizer, config.seed), run.mesh)
        restored = checkpoints.restore(state, run.identity, move=False)
    finally:
        checkpoints.close()
    if restored is None:
        raise UserError(f"{folder} has no checkpoint: train first")
    return Trained(run, restored.state.params, restored.step // run.placement.chunks)


def read_config(folder: Path) -> ConfigDict:
    """The config of a workdir.

    Raises:
      UserError: there is none, it is damaged, or of another version of demjax.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{file}: no such file; expected the --workdir of a run")
    try:
        flat = json.loads(file.read_text())
        config = default_config(flat["task.name"])
        known = flatten(config)
        config.update_from_flattened_dict(
            {key: tuple(value) if isinstance(known.get(key), tuple) else value for key, value in flat.items()}
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is damaged or of another version ({error}): train again in another --workdir"
        ) from error
    check_config(config)
    return config
