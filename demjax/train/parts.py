"""Single parts of a run, each from its config: task, optimiser, provenance."""

import hashlib
import os
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from demjax import user_code
from demjax.checks import UserError
from demjax.data import Spec
from demjax.tasks import Task, make_task
from demjax.train.config import config_hash
from demjax.train.engine.optimizer import check_groups, make_optimizer


def task_of(config: ConfigDict, spec: Spec) -> Task:
    """The task of a config for data of the shapes in `spec`.

    Raises:
      UserError: an unknown task, a setting out of range.
    """
    return make_task(config.task.name, spec, {k: v for k, v in config.task.items() if k != "name"})


def optimizer_of(config: ConfigDict, task: Task, **changes: Any) -> optax.GradientTransformation:
    """The optimiser of a config for the groups of parameters of a task; `changes` of the arguments of `make_optimizer`.

    Raises:
      UserError: an unknown name, groups that do not fit the parameters.
    """
    names: tuple[str, ...] = ()
    if task.groups:
        assert task.init is not None
        params = jax.eval_shape(task.init, jax.random.key(0)).params
        names = tuple(sorted(set(jax.tree.leaves(task.groups.label(params)))))
        check_groups(task.groups, names)
    return make_optimizer(groups=task.groups, names=names, **config.optimizer.to_dict() | changes)


def check_deterministic(wanted: bool, platform: str) -> None:
    """Raises a UserError where deterministic kernels are wanted on a GPU and JAX has started without them."""
    flag = "xla_gpu_deterministic_ops"
    if wanted and platform in ("gpu", "cuda", "rocm") and flag not in os.environ.get("XLA_FLAGS", ""):
        raise UserError(
            f"deterministic=True after JAX has started: set XLA_FLAGS=--{flag}=true before, or use "
            "python -m demjax.main"
        )


def provenance_of(config: ConfigDict) -> dict[str, Any]:
    """The part of the provenance that members of a population differ in."""
    return {"config_hash": config_hash(config), "fold": config.data.fold, "seed": config.seed}


def task_file_digest(config: ConfigDict) -> str:
    """First 16 hex digits of the SHA-256 of a user's task file; "" for a task of demjax."""
    if not user_code.is_reference(config.task.name):
        return ""
    return hashlib.sha256(user_code.file_of(config.task.name).read_bytes()).hexdigest()[:16]
