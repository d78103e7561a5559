"""From a config to the parts of a run, all checked before anything is written; and what its numbers depend on."""

import copy
import platform
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

import demjax
from demjax import user_code
from demjax.checks import UserError
from demjax.data import Dataset, Rows
from demjax.mesh import data_mesh
from demjax.tasks import Task
from demjax.train.config import check_config, config_hash
from demjax.train.data_cache import DataCache, load_data
from demjax.train.engine.epoch import Draw, Plan
from demjax.train.engine.optimizer import frozen_in
from demjax.train.engine.placement import RESIDENT, Placement, check_stream, choose_placement
from demjax.train.engine.state import TrainState, init_state
from demjax.train.evaluate import Options, check_options, options_of
from demjax.train.parts import check_deterministic, optimizer_of, provenance_of, task_file_digest, task_of
from demjax.train.run_folder.folder import PLACEMENT, read_placement
from demjax.train.user_task import check_user_task


class Experiment:
    """All parts of a run, built from its config and checked, before anything is written.

    Attributes:
      config: its settings.
      dataset: what it trains on and is judged by.
      task: built from the Spec of the data set.
      mesh: the devices.
      rows: of the batches; None for a closed form.
      placement: of the rows.
      batch_size: rows a step, over all devices together.
      plan: of a compiled call.
    """

    def __init__(self, config: ConfigDict, dataset: Dataset, task: Task, mesh: Mesh, workdir: Path | None = None):
        """`workdir`: of the run, where it may have begun."""
        self.config, self.dataset, self.task, self.mesh = config, dataset, task, mesh
        self._workdir = workdir
        train = config.train
        self.rows: Rows | None = None if task.solve else _rows(task, dataset, train.batching, config.task.name)
        if self.rows is None:
            self.placement, self.batch_size = Placement("replicated", 0, 0, 0), 0
            self.plan = Plan(0, 0)
            return
        kind = _placement_of(train.placement, workdir)
        self.placement = choose_placement(kind, self.rows, task.fields, mesh, train.chunk_rows)
        if self.placement.kind == "streamed":
            check_stream(self.rows, train.passes_per_epoch)
        draw = None if self.rows.group is None else Draw.of(self.rows.group)
        most = len(draw.size) if draw else self.placement.call_rows
        if draw and train.batch_size > most:
            raise UserError(
                f"train.batch_size is {train.batch_size}, of different {self.rows.noun}: there are {most} seen ones"
            )
        self.batch_size = min(train.batch_size or most, most)
        self.plan = Plan(self.placement.call_rows, self.batch_size, train.passes_per_epoch, train.precision, draw)
        self.optimizer(0)  # a mistake in its settings shows here

    @property
    def total_calls(self) -> int:
        """Compiled calls of the whole run."""
        return self.config.train.epochs * self.placement.chunks

    @property
    def steps_per_epoch(self) -> int:
        """Updates of the parameters."""
        return self.plan.steps * self.placement.chunks

    def where(self, call: int) -> str:
        """Where compiled call number `call`, from 1, stands: epoch 3; or, of streamed rows, epoch 3, chunk 7 of 40."""
        epoch, chunk = divmod(call - 1, self.placement.chunks)
        return f"epoch {epoch + 1}" + (f", chunk {chunk + 1} of {self.placement.chunks}" * (self.placement.chunks > 1))

    def is_due(self, call: int, every: int) -> bool:
        """Whether something that is done every so many epochs, and at the end, is done after compiled call `call`."""
        return bool(every and call) and (call == self.total_calls or call % (every * self.placement.chunks) == 0)

    def frozen(self, call: int) -> frozenset[str]:
        """The groups of parameters that do not train yet in compiled call number `call` from 0."""
        return frozen_in(self.task.groups, call // self.placement.chunks)

    def optimizer(self, call: int, **changes: Any) -> optax.GradientTransformation:
        """The optimiser of compiled call number `call` from 0; `changes` of its settings."""
        return optimizer_of(
            self.config,
            self.task,
            total_steps=self.steps_per_epoch * self.config.train.epochs,
            steps_per_pass=self.steps_per_epoch // self.config.train.passes_per_epoch,
            frozen=self.frozen(call),
            **changes,
        )

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """What `embed` needs of the training set."""
        return dict(self.task.statistics(self.dataset))

    @cached_property
    def constants(self) -> dict[str, Any]:
        """What the loss gets whole beside its rows."""
        return dict(self.task.constants(self.dataset))

    def fresh_state(self) -> TrainState:
        """The state before the first step."""
        return init_state(self.task, self.optimizer(0), self.config.seed, self.statistics)

    @cached_property
    def twin(self) -> "Experiment":
        """The same run as if only trainval existed, on a view of the data in memory: it tunes what the final evaluation
        may not choose on test images.

        Raises:
          UserError: what does not fit on the validation classes.
        """
        config = copy.deepcopy(self.config)
        config.data.fold, config.evaluate.calibrate, config.evaluate.every = "val", False, 0
        config.evaluate.update({key: v for p in self.task.protocols for key, v in p.options.items()})
        try:
            folder = self._workdir and self._workdir / "validation"
            return assemble(config, self.dataset.validation_view(), self.mesh, folder)
        except UserError as mistake:
            raise UserError(f"evaluate.calibrate, on the validation classes: {mistake}") from None

    @property
    def calibrates(self) -> bool:
        """Whether the final evaluation is tuned by the twin."""
        return bool(self.config.evaluate.calibrate) and not self.dataset.is_validation_view

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on."""
        of_data = {"config hash": config_hash(self.config), "data fingerprints": self.dataset.fingerprints}
        of_task = {"task fingerprint": self.task.fingerprint(self.dataset), "task file": task_file_digest(self.config)}
        return of_data | {"chunks": self.placement.identity} | {k: v for k, v in of_task.items() if v}

    def options(self, tuned: Mapping[str, Mapping[str, float]] | None = None) -> Options:
        """How it evaluates; `tuned` are the options from its twin."""
        return options_of(self.config, tuned)

    def check(self) -> None:
        """Finds the mistakes that would show only after the training, in the evaluation or in the twin.

        Raises:
          UserError: what does not fit.
        """
        check_options(self.options(), self.task, self.dataset)
        if not self.task.solve:
            _ = self.constants, self.statistics
        if user_code.is_reference(self.config.task.name):
            check_user_task(self)
        if self.calibrates:
            self.twin.check()

    def provenance(self, epoch: int) -> dict[str, Any]:
        """What a number depends on."""
        packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
        device = self.mesh.devices.flat[0]
        return provenance_of(self.config) | {
            "fingerprints": self.dataset.fingerprints,
            "split_version": self.dataset.version,
            "sources": dict(self.dataset.sources),
            "task_file": task_file_digest(self.config),
            "correction": check_options(self.options(), self.task, self.dataset).correction,
            "epoch": epoch,
            "devices": f"{self.mesh.size} x {device.device_kind} ({device.platform})",
            "training_precision": self.config.train.precision,
            "evaluation_precision": "float32, highest",
            "versions": {"demjax": demjax.__version__, "python": platform.python_version()}
            | {p: metadata.version(p) for p in packages},
        }


def _rows(task: Task, dataset: Dataset, batching: str, name: str) -> Rows:
    if batching == "auto":
        batching = next(iter(task.batchings))
    if batching not in task.batchings:
        raise UserError(f"train.batching is {batching!r}: the loss of {task.name} needs {' or '.join(task.batchings)}")
    rows = task.batchings[batching](dataset)
    if not isinstance(rows, Rows):
        raise UserError(
            f"batching {batching!r} of task {name} returns {type(rows).__name__}: expected demjax.data.Rows"
        )
    return rows


def build(
    config: ConfigDict,
    devices: Sequence[jax.Device] | None = None,
    cache: DataCache | None = None,
    workdir: Path | None = None,
) -> Experiment:
    """Checks the config, loads the data, builds the task and its optimiser.

    Args:
      devices: default all, of all processes.
      cache: data sets in memory, for many runs on the same files; None: the files are read.
      workdir: of the run; one that has begun goes on with its rows placed as they were.

    Raises:
      UserError: for whatever in config or data does not fit.
    """
    check_config(config)
    mesh = data_mesh(devices)
    check_deterministic(config.deterministic, mesh.devices.flat[0].platform)
    dataset = cache.load(config.data) if cache else load_data(config.data)
    experiment = assemble(config, dataset, mesh, workdir)
    experiment.check()
    return experiment


def assemble(config: ConfigDict, dataset: Dataset, mesh: Mesh, workdir: Path | None = None) -> Experiment:
    """The experiment of a config on a data set in memory; `check` it before it runs.

    Raises:
      UserError: for whatever in the config does not fit.
    """
    return Experiment(config, dataset, task_of(config, dataset.spec), mesh, workdir)


def _placement_of(kind: str, workdir: Path | None) -> str:
    """`auto` as the run in `workdir` has begun, if there is one."""
    if kind != "auto" or workdir is None or not (workdir / PLACEMENT).is_file():
        return kind
    return "streamed" if read_placement(workdir) else RESIDENT
