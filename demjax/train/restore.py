"""A finished run as it was: its config, task and newest variables, for programs that use what it has learned."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from demjax import user_code
from demjax.checks import UserError
from demjax.data import Dataset, Spec
from demjax.data.files import read_json
from demjax.mesh import replicate
from demjax.tasks import Task, Variables
from demjax.train.config import check_config, config_hash, default_config, flatten
from demjax.train.engine.state import init_state
from demjax.train.experiment import Experiment, build
from demjax.train.parts import optimizer_of, task_file_digest, task_of
from demjax.train.run_folder.checkpoint import Checkpoints
from demjax.train.run_folder.folder import CONFIG, SPEC, TASK_FILE


class RestoredRun(NamedTuple):
    """A run, its newest variables, the epochs they have seen, and what the checkpoint says of its config and data.

    Without its data `experiment` is None; config, spec, task and variables are what `task.embed` needs.
    """

    experiment: Experiment | None
    config: ConfigDict
    spec: Spec
    task: Task
    variables: Variables
    epoch: int
    meta: dict[str, Any]

    @property
    def dataset(self) -> Dataset:
        """What it was trained on.

        Raises:
          UserError: it was restored without its data.
        """
        if self.experiment is None:
            raise UserError("the run was restored without its data: restore_run(..., data=True)")
        return self.experiment.dataset

    def provenance(self) -> dict[str, Any]:
        """What its vectors depend on."""
        if self.experiment:
            return self.experiment.provenance(self.epoch)
        known = {"config_hash": self.meta["config hash"], "fingerprints": self.meta["data fingerprints"]}
        return known | {"seed": self.config.seed, "fold": self.config.data.fold, "epoch": self.epoch}


def restore_run(workdir: str | Path, *, data: bool = True, **moved: str) -> RestoredRun:
    """The run in `workdir`; `moved` are files and folders that lie elsewhere now: dir, descriptions, word_vectors.

    Args:
      workdir: of the run.
      data: whether its data set is loaded and compared with the one it was trained on. Without, the task embeds what it
        is handed.

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
    if not data:
        return _without_data(folder, config)
    experiment = build(config, workdir=folder)
    checkpoints = Checkpoints(folder / "checkpoints", keep=config.train.keep_checkpoints)
    try:
        state = replicate(experiment.fresh_state(), experiment.mesh)
        restored = checkpoints.restore(state, experiment.identity, move=False)
    finally:
        checkpoints.close()
    if restored is None:
        raise UserError(f"{folder} has no checkpoint: train first")
    epoch = restored.step // experiment.placement.chunks
    spec = experiment.dataset.spec
    variables = restored.state.variables
    return RestoredRun(experiment, config, spec, experiment.task, variables, epoch, restored.meta)


def _of_file(config: ConfigDict) -> dict[str, str]:
    digest = task_file_digest(config)
    return {"task file": digest} if digest else {}


def _without_data(folder: Path, config: ConfigDict) -> RestoredRun:
    """From spec.json, which has the shapes of what the task keeps of its training set."""
    known = read_json(folder / SPEC)
    spec = Spec.from_json(known["spec"])
    task = task_of(config, spec)
    statistics = {name: np.zeros(shape, dtype) for name, (shape, dtype) in known["statistics"].items()}
    checkpoints = Checkpoints(folder / "checkpoints", keep=config.train.keep_checkpoints)
    try:
        optimizer = optimizer_of(config, task, total_steps=1, steps_per_pass=1)
        expected = {"config hash": config_hash(config)} | _of_file(config)
        newest = checkpoints.restore(init_state(task, optimizer, 0, statistics), expected, move=False)
    finally:
        checkpoints.close()
    if newest is None:
        raise UserError(f"{folder} has no checkpoint: train first")
    return RestoredRun(None, config, spec, task, newest.state.variables, newest.meta["epoch"], newest.meta)


def read_config(folder: Path) -> ConfigDict:
    """The config of a workdir; a task from a user's file is the one kept there.

    Raises:
      UserError: there is none, it is damaged, or of another version of demjax.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise UserError(f"{file}: no such file; expected the --workdir of a run")
    flat: Any = read_json(file)
    try:
        if user_code.is_reference(flat["task.name"]):
            flat["task.name"] = f"{folder / TASK_FILE}:{flat['task.name'].rpartition(':')[2]}"
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
