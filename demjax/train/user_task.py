"""Checks of a task from a user's file before it trains: what it lacks or returns is named with the file."""

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
    if unknown := [name for name in task.sweepable if name not in experiment.constants]:
        raise UserError(f"{file}: sweepable of {task.name} names {unknown[0]!r}: it is none of the constants")
    state = jax.eval_shape(experiment.fresh_state)
    n = experiment.batch_size
    batch = {name: _abstract(rows.columns[name], n) for name in task.fields} | {"row": _shape((n,), np.int32)}
    batch |= {name: _abstract(value) for name, value in experiment.constants.items()}
    key = jax.eval_shape(lambda: jax.random.key(0))

    def one_device(variables: Any, batch: Mapping[str, Any], key: Any) -> Any:
        returned = task.loss(variables, batch, key, DATA_AXIS)  # type: ignore[misc]
        if not isinstance(returned, tuple) or len(returned) != 4:
            return jax.tree.map(lambda x: jax.lax.psum(x, DATA_AXIS), returned)
        total, count, sums, new = returned
        return *jax.lax.psum((total, count, dict(sums)), DATA_AXIS), new

    mesh = jax.sharding.Mesh(np.array(experiment.mesh.devices.flat[:1]), (DATA_AXIS,))
    spec = jax.sharding.PartitionSpec()
    mapped = jax.shard_map(one_device, mesh=mesh, in_specs=(spec, spec, spec), out_specs=spec)
    try:
        returned = jax.eval_shape(mapped, state.variables, batch, key)
    except ValueError as error:
        if "out_specs" not in str(error):
            raise
        known = "its state, or is no sum: reduce the state over `axis`, as jax.lax.psum(x, axis)"
        raise UserError(f"{file}: the loss of {task.name} returns something of one device only as {known}") from error
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
    """Embeds two items of each compiled side and all classes, where the task and the data have these sides."""
    task, data = experiment.task, experiment.dataset
    if not {"image", "text"} & task.embed.keys():
        raise UserError(
            f"{file}: embed of {task.name} has the sides {', '.join(task.embed)}: expected image, text or both"
        )
    variables, widths = experiment.fresh_state().variables, dict[str, int]()
    for side, split in (("image", data.training), ("text", data.training), ("class", "all")):
        if side not in task.embed or task.pair:
            continue
        split = "all" if side == "text" and data.spec.classes else split
        ids = data.ids(side, split)[: None if side == "class" else 2]
        items = data.items(side, ids, task.columns(side))
        if side != "class":
            items = {name: task.tokens[name](x) if name in task.tokens else x for name, x in items.items()}
        embedded = task.embed[side](variables, items)
        several = side == "image" and task.score.vectors > 1
        expected = f"[{len(ids)}, {task.score.vectors}, d]" if several else f"[{len(ids)}, d]"
        shape: tuple[int, ...] = getattr(embedded, "shape", ())
        if len(shape) != 2 + several or len(embedded) != len(ids):
            got = f"{shape}" if shape else type(embedded).__name__
            raise UserError(f"{file}: embed[{side!r}] of {task.name} returns {got}: expected {expected}")
        widths[side] = shape[-1]
    if len(set(widths.values())) > 1:
        raise UserError(f"{file}: embed of {task.name} gives vectors of widths {widths}: expected one space")


def _shape(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _abstract(value: Any, n: int | None = None) -> jax.ShapeDtypeStruct:
    value = value if hasattr(value, "dtype") else np.asarray(value)
    return _shape(tuple(value.shape) if n is None else (n, *value.shape[1:]), value.dtype)


def _form(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if hasattr(value, "shape") else type(value).__name__


def _forms(tree: Any) -> str:
    return str(jax.tree.map(_form, dict(tree)))
