"""One compiled epoch: jit(shard_map(scan(step))) over data that stay on the devices.

Written once for one device, mapped over the mesh axis `data`, reduced by psum. The host is not asked
anything between the first and the last step of an epoch.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from demjax.mesh import DATA_AXIS
from demjax.tasks import Task

Losses = dict[str, jax.Array]


class TrainState(NamedTuple):
    """Everything a step changes or depends on: what a checkpoint holds.

    Attributes:
      params: of the task.
      opt_state: of the optax optimiser.
      epoch: int32, finished compiled calls: epochs, or chunks where rows are streamed.
      key: uint32 key data. Batch orders and random draws are functions of it and of `epoch` alone, so a
        resumed run repeats an uninterrupted one, on any number of devices.
    """

    params: Any
    opt_state: Any
    epoch: jax.Array
    key: jax.Array


def state_maker(task: Task, optimizer: optax.GradientTransformation) -> Callable[[Any], TrainState]:
    """Seed (uint32) -> fresh parameters and optimiser state, compiled once for all seeds."""

    def build(seed):
        init_key, run_key = jax.random.split(jax.random.key(seed))
        params = task.init(init_key)
        return TrainState(params, optimizer.init(params), jnp.int32(0), jax.random.key_data(run_key))

    return jax.jit(build)


def init_state(task: Task, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """Fresh parameters and optimiser state."""
    return state_maker(task, optimizer)(np.uint32(seed))


def batch_order(key: jax.Array, n_rows: int, batch_size: int, width: int) -> jax.Array:
    """Row ids [steps, width] of one pass: a permutation cut into batches, the incomplete last one kept.

    Gaps (in the last batch, and where `width` rounds `batch_size` up to the number of devices) hold
    `n_rows`, the id of the empty row.
    """
    steps = math.ceil(n_rows / batch_size)
    order = jnp.full(steps * batch_size, n_rows, jnp.int32)
    order = order.at[:n_rows].set(jax.random.permutation(key, n_rows).astype(jnp.int32))
    gap = ((0, 0), (0, width - batch_size))
    return jnp.pad(order.reshape(steps, batch_size), gap, constant_values=n_rows)


def drawn_batches(key: jax.Array, n_rows: int, batch_size: int, width: int) -> jax.Array:
    """Row ids [n_rows, width]: in each step the first `batch_size` of a new permutation, gaps as in `batch_order`."""
    orders = jax.vmap(lambda k: jax.random.permutation(k, n_rows)[:batch_size])(jax.random.split(key, n_rows))
    return jnp.pad(orders.astype(jnp.int32), ((0, 0), (0, width - batch_size)), constant_values=n_rows)


def global_loss_and_grads(task: Task, params: Any, batch: Mapping[str, Any], key: jax.Array) -> tuple[Losses, Any]:
    """Loss of the whole batch, whatever part of it this device holds, and its gradient.

    The psums stand *inside* the differentiated function: under shard_map's replication checks the gradient
    of replicated parameters then comes out summed exactly once. Reducing it again by hand
    (`pmean(grad(...))`) would multiply it by the number of devices, and Adam would hide that.
    """

    def loss(p):
        total, count, sums = task.loss(p, batch, key, DATA_AXIS)
        total, count, sums = jax.lax.psum((total, count, sums), DATA_AXIS)
        count = jnp.where(count > 0, count, 1)  # a small batch of a streamed chunk can have empty rows only
        return total / count, {name: value / count for name, value in sums.items()}

    (value, parts), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return {"loss": value} | parts, grads


class Plan(NamedTuple):
    """What an epoch does, apart from where.

    Attributes:
      n_rows: rows without the empty one at the end.
      batch_size: rows a step, over all devices together.
      passes: over the rows in one epoch.
      precision: of matrix products; JAX's default rounds float32 to TF32 on GPUs and bfloat16 on TPUs.
      drawn: every step draws its own batch of different rows, and a pass has as many steps as there are rows.
    """

    n_rows: int
    batch_size: int
    passes: int = 1
    precision: str = "highest"
    drawn: bool = False

    def schedule(self, state: TrainState, width: int) -> tuple[jax.Array, jax.Array]:
        """Row ids [steps, width] and a key for every step of the epoch after `state`."""

        def one_pass(number: jax.Array) -> tuple[jax.Array, jax.Array]:
            order_key, step_key = jax.random.split(jax.random.fold_in(key, number))
            order = drawn_batches if self.drawn else batch_order
            orders = order(order_key, self.n_rows, self.batch_size, width)
            return orders, jax.random.split(step_key, len(orders))

        key = jax.random.wrap_key_data(state.key)
        schedule = jax.vmap(one_pass)(state.epoch * self.passes + jnp.arange(self.passes))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), schedule)


def take(rows: Mapping[str, Any], ids: jax.Array) -> dict[str, Any]:
    """This device's part of a batch, where it holds all rows; numbered as they stand, unless they say "row"."""
    return {"row": ids} | {name: x[ids] for name, x in rows.items()}


def take_shared(rows: Mapping[str, Any], ids: jax.Array) -> dict[str, Any]:
    """The same where every device holds a part of the rows, and `ids` [b] are those of the whole batch.

    Each gives what it has of the batch and gets its part of it: one reduce-scatter of a batch, exact, because all but
    one of the numbers added are 0.
    """
    device, n = jax.lax.axis_index(DATA_AXIS), len(ids) // jax.lax.axis_size(DATA_AXIS)

    def share(x: jax.Array) -> jax.Array:
        at = ids - device * len(x)
        mine = (at >= 0) & (at < len(x))
        part = jnp.where(mine.reshape(-1, *[1] * (x.ndim - 1)), x[jnp.clip(at, 0, len(x) - 1)], 0)
        return jax.lax.psum_scatter(part, DATA_AXIS, tiled=True)

    own = jax.lax.dynamic_slice_in_dim(ids, device * n, n)
    return {"row": own} | {name: share(x) for name, x in rows.items()}


def run_steps(task: Task, optimizer: optax.GradientTransformation, take: Callable = take) -> Callable:
    """(params and optimiser state, row ids [steps, b], keys, rows, tables) -> (the same, losses [steps]), per device.

    A table `learning_rate` scales the updates: so one optimiser of rate 1 serves members of different rates.
    """

    def run(trained, orders, keys, rows, tables):
        def step(carry, inputs):
            (params, opt_state), (ids, key) = carry, inputs
            batch = tables | take({name: rows[name] for name in rows.keys() & {*task.fields, "row"}}, ids)
            values, grads = global_loss_and_grads(task, params, batch, key)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            if "learning_rate" in tables:
                updates = jax.tree.map(lambda u: tables["learning_rate"] * u, updates)
            return (optax.apply_updates(params, updates), opt_state), values

        return jax.lax.scan(step, trained, (orders, keys))

    return run


def compile_epoch(
    task: Task, optimizer: optax.GradientTransformation, mesh: Mesh, plan: Plan, shared: bool = False
) -> Callable[[TrainState, Mapping[str, Any], Mapping[str, Any]], tuple[TrainState, Losses]]:
    """Builds epoch(state, rows, tables) -> (state, losses), jitted, its state donated.

    Args:
      task, optimizer: what to train and how.
      mesh: one axis, `data`; each device takes its share of every batch.
      plan: of the epoch.
      shared: the rows are shared out among the devices, in equal parts.

    Returns:
      The epoch; its losses have one value per step.
    """
    width = math.ceil(plan.batch_size / mesh.size) * mesh.size
    everywhere, split = PartitionSpec(), PartitionSpec(None, DATA_AXIS)
    own_rows = PartitionSpec(DATA_AXIS) if shared else everywhere
    mapped = jax.shard_map(
        run_steps(task, optimizer, take_shared if shared else take),
        mesh=mesh,
        in_specs=(everywhere, everywhere if shared else split, everywhere, own_rows, everywhere),
        out_specs=everywhere,
    )

    def epoch(state: TrainState, rows: Mapping[str, Any], tables: Mapping[str, Any]):
        orders, keys = plan.schedule(state, width)
        with jax.default_matmul_precision(plan.precision):
            trained, losses = mapped((state.params, state.opt_state), orders, keys, rows, tables)
        params, opt_state = trained
        return TrainState(params, opt_state, state.epoch + 1, state.key), losses

    return jax.jit(epoch, donate_argnums=0)
