"""From a config to the parts of a run, all checked before anything is written; and what its numbers depend on."""

import contextlib
import copy
import json
import math
import os
import platform
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

import demjax
from demjax.checks import UserError, choose
from demjax.data import ClassSet as Dataset
from demjax.data import load
from demjax.data.batches import Rows, class_sums, classes, examples
from demjax.mesh import data_mesh
from demjax.tasks import TASKS, Task
from demjax.train.answers import Options
from demjax.train.config import check_config, config_hash, flatten
from demjax.train.epoch import Plan
from demjax.train.evaluate import check_options
from demjax.train.feed import RESIDENT, Placement, check_stream, choose_placement
from demjax.train.optimizer import make_optimizer
from demjax.train.workdir import PLACEMENT

BATCHING = {
    "examples": lambda dataset: examples(dataset).columns,
    "class_sums": lambda dataset: class_sums(dataset).columns,
    "classes": lambda dataset: one_row_a_group(classes(dataset)),
}


class Run(NamedTuple):
    """All parts of a run, built from its config and checked, before anything is written."""

    config: ConfigDict
    dataset: Dataset
    task: Task
    optimizer: optax.GradientTransformation
    mesh: Mesh
    rows: dict[str, np.ndarray]
    batch_size: int
    steps_per_call: int
    placement: Placement

    @property
    def plan(self) -> Plan:
        """Of a compiled call: an epoch, or a chunk of one."""
        train = self.config.train
        drawn = train.batching == "classes"
        return Plan(self.placement.call_rows, self.batch_size, train.passes_per_epoch, train.precision, drawn)

    @property
    def calls(self) -> int:
        """Compiled calls of the whole run."""
        return self.config.train.epochs * self.placement.chunks

    def place(self, number: int) -> str:
        """Where compiled call `number`, from 1, stands: epoch 3; or, of streamed rows, epoch 3, chunk 7 of 40."""
        epoch, chunk = divmod(number - 1, self.placement.chunks)
        return f"epoch {epoch + 1}" + (f", chunk {chunk + 1} of {self.placement.chunks}" * (self.placement.chunks > 1))

    @property
    def steps_per_epoch(self) -> int:
        """Updates of the parameters."""
        return self.steps_per_call * self.placement.chunks

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on."""
        own = {"task fingerprint": self.task.fingerprint} if self.task.fingerprint else {}
        told = {"config hash": config_hash(self.config), "data fingerprints": self.dataset.fingerprints}
        return told | {"chunks": self.placement.identity} | own


def one_row_a_group(rows: Rows) -> dict[str, Any]:
    """Label and weight of the first row of each group, and the empty row."""
    assert rows.group is not None
    first = np.append(np.flatnonzero(np.diff(rows.group, prepend=-1)), rows.n_rows)
    return {name: rows.columns[name][first] for name in ("label", "weight")}


def check_deterministic(asked: bool, platform: str) -> None:
    """Raises a UserError where it is asked for too late."""
    if (
        asked
        and platform in ("gpu", "cuda", "rocm")
        and "xla_gpu_deterministic_ops" not in os.environ.get("XLA_FLAGS", "")
    ):
        raise UserError(
            "deterministic=True after JAX has started: set XLA_FLAGS=--xla_gpu_deterministic_ops=true before, or use "
            "python -m demjax.main"
        )


def build(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Run:
    """Checks the config, loads the data, builds the task and its optimiser.

    Raises:
      UserError: for whatever in config or data does not fit.
    """
    check_config(config)
    dataset = _dataset(config)
    task = build_task(config, dataset)
    check_options(options_of(config), task, dataset)
    batching = config.train.batching
    rows = choose("train.batching", batching, BATCHING)(dataset)
    if batching not in task.rows and not task.solve:
        raise UserError(f"train.batching is {batching}: the loss of {task.name} needs {' or '.join(task.rows)}")
    mesh, train = data_mesh(devices), config.train
    check_deterministic(config.deterministic, mesh.devices.flat[0].platform)
    placement = choose_placement(train.placement, rows, task.fields, mesh, train.chunk_rows)
    if placement.kind == "streamed":
        check_stream(batching, train.passes_per_epoch)
    n_rows = placement.call_rows
    batch_size = min(config.train.batch_size or n_rows, n_rows)
    drawn = batching == "classes"
    if drawn and config.train.batch_size > n_rows:
        raise UserError(
            f"train.batch_size is {config.train.batch_size}, of different classes: the set has {n_rows} seen ones"
        )
    steps = (n_rows if drawn else math.ceil(n_rows / batch_size)) * config.train.passes_per_epoch
    optimizer = make_optimizer(
        total_steps=steps * placement.chunks * config.train.epochs,
        steps_per_pass=steps * placement.chunks // config.train.passes_per_epoch,
        **config.optimizer.to_dict(),
    )
    return Run(config, dataset, task, optimizer, mesh, rows, batch_size, steps, placement)


def as_placed(config: ConfigDict, workdir: Path) -> ConfigDict:
    """The config with `auto` placement as the run in `workdir` has begun, if there is one."""
    file = workdir / PLACEMENT
    if config.train.placement != "auto" or not file.is_file():
        return config
    config = copy.deepcopy(config)
    try:
        streamed = json.loads(file.read_text())["streamed"]
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{file} is damaged ({error}): say how the run began, --config.train.placement=replicated|sharded|streamed"
        ) from error
    config.train.placement = "streamed" if streamed else RESIDENT
    return config


def validation_twin(config: ConfigDict) -> ConfigDict:
    """The same run as if only trainval existed: it finds the penalty of calibrated stacking."""
    twin = copy.deepcopy(config)
    twin.data.fold, twin.evaluate.calibrate, twin.evaluate.every = "val", False, 0
    twin.evaluate.update(hits=(), captions=())  # of no use for a penalty
    return twin


def check_twin(run: Run) -> None:
    """Finds the mistakes of a twin that would show only when the training is done.

    Raises:
      UserError: what does not fit on the validation classes.
    """
    if run.config.evaluate.calibrate and not run.dataset.is_validation_view:
        try:
            build(validation_twin(run.config), list(run.mesh.devices.flat))
        except UserError as mistake:
            raise UserError(f"evaluate.calibrate, on the validation classes: {mistake}") from None


def options_of(config: ConfigDict, penalty: dict[str, float] | None = None) -> Options:
    """How a run evaluates."""
    given = config.evaluate
    return Options(given.query_batch, given.correction, penalty, tuple(given.hits), given.ties, tuple(given.captions))


def build_task(config: ConfigDict, dataset: Dataset) -> Task:
    """The task of a config for a data set.

    Raises:
      UserError: an unknown task, a setting out of range.
    """
    settings = {k: v for k, v in config.task.items() if k != "name"}
    return choose("task.name", config.task.name, TASKS)(dataset, **settings)


@contextlib.contextmanager
def keeping_datasets() -> Iterator[None]:
    """Within, sets that were read are not read again: for many runs on files that stay as they are meanwhile."""
    global _kept
    outer, _kept = _kept, {} if _kept is None else _kept
    try:
        yield
    finally:
        _kept = outer


KEPT = 3  # the test view and the validation view of one set, and one more
_kept: dict[str, Any] | None = None


def _dataset(config: ConfigDict) -> Any:
    if _kept is None:
        return load(**config.data.to_dict())
    key = json.dumps(flatten(config.data))
    if key not in _kept:
        if len(_kept) == KEPT:
            _kept.pop(next(iter(_kept)))
        _kept[key] = load(**config.data.to_dict())
    return _kept[key]


def provenance(run: Run, epoch: int) -> dict[str, Any]:
    """What a number depends on."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    device = run.mesh.devices.flat[0]
    return {
        "config_hash": config_hash(run.config),
        "fingerprints": run.dataset.fingerprints,
        "split_version": run.dataset.version,
        "sources": dict(run.dataset.sources),
        "fold": run.config.data.fold,
        "seed": run.config.seed,
        "correction": check_options(options_of(run.config), run.task, run.dataset).correction,
        "epoch": epoch,
        "devices": f"{run.mesh.size} x {device.device_kind} ({device.platform})",
        "training_precision": run.config.train.precision,
        "evaluation_precision": "float32, highest",
        "versions": {"demjax": demjax.__version__, "python": platform.python_version()}
        | {p: metadata.version(p) for p in packages},
    }
