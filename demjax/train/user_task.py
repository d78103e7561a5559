"""Checks of a user's own task before it trains: what it lacks or returns is named with its file and line."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from demjax import user_code
from demjax.checks import UserError
from demjax.mesh import DATA_AXIS


def check_user_task(experiment: Any) -> None:
    """Traces the loss and embeds a few items of a task from a user's file; `experiment` is the Experiment of the run.

    Raises:
      UserError: what raises, by file and line; fields that the rows lack; results of other forms or shapes.
    """
    task, file = experiment.task, user_code.file_of(experiment.config.task.name)
    if experiment.rows is not None:
        _check_loss(experiment, file)
    if task.solve is None:
        _check_embed(experiment, file)


def _check_loss(experiment: Any, file: Any) -> None:
    task, rows = experiment.task, experiment.rows
    assert rows is not None and task.loss is not None
    state = jax.eval_shape(experiment.fresh_state)
    n = experiment.batch_size
    batch = {name: _abstract(rows.columns[name], n) for name in task.fields} | {"row": _shape((n,), np.int32)}
    batch |= {name: _abstract(value) for name, value in experiment.constants.items()}
    key = jax.eval_shape(lambda: jax.random.key(0))

    def one_device(variables: Any, batch: Mapping[str, Any], key: Any) -> Any:
        return task.loss(variables, batch, key, DATA_AXIS)  # type: ignore[misc]

    mesh = jax.sharding.Mesh(np.array(experiment.mesh.devices.flat[:1]), (DATA_AXIS,))
    spec = jax.sharding.PartitionSpec()
    mapped = jax.shard_map(one_device, mesh=mesh, in_specs=(spec, spec, spec), out_specs=spec, check_vma=False)
    returned = jax.eval_shape(mapped, state.variables, batch, key)
    if not isinstance(returned, tuple) or len(returned) != 4:
        raise UserError(
            f"{file}: the loss of {task.name} returns {_form(returned)}: expected (sum, count, {{name: sum}}, state)"
        )
    total, count, sums, new = returned
    for what, value in (("sum", total), ("count", count), *dict(sums).items()):
        if value.shape != ():
            raise UserError(f"{file}: the loss of {task.name} returns {what} of shape {value.shape}: expected a number")
    old = state.variables.state
    if jax.tree.map(_form, new) != jax.tree.map(_form, old):
        raise UserError(f"{file}: the loss of {task.name} returns the state {_forms(new)}: expected {_forms(old)}")


def _check_embed(experiment: Any, file: Any) -> None:
    """Embeds two images and all classes, where the task and the data have these sides."""
    task, data = experiment.task, experiment.dataset
    variables = experiment.fresh_state().variables
    for side, split, n in (("image", data.training, 2), ("class", "all", None)):
        if side not in task.embed or task.pair:
            continue
        ids = data.ids(side, split)[:n]
        embedded = task.embed[side](variables, data.items(side, ids, task.columns(side)))
        several = side == "image" and task.score.vectors > 1
        expected = f"[{len(ids)}, {task.score.vectors}, d]" if several else f"[{len(ids)}, d]"
        shape = getattr(embedded, "shape", ())
        if len(shape) != 2 + several or len(embedded) != len(ids):
            got = f"{shape}" if shape else type(embedded).__name__
            raise UserError(f"{file}: embed[{side!r}] of {task.name} returns {got}: expected {expected}")


def _shape(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _abstract(value: Any, n: int | None = None) -> jax.ShapeDtypeStruct:
    value = value if hasattr(value, "dtype") else np.asarray(value)
    return _shape(tuple(value.shape) if n is None else (n, *value.shape[1:]), value.dtype)


def _form(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if hasattr(value, "shape") else type(value).__name__


def _forms(tree: Any) -> str:
    return str(jax.tree.map(_form, dict(tree)))
