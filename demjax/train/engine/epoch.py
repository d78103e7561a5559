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
from demjax.tasks import Task, Variables
from demjax.train.engine.placement import take, take_shared
from demjax.train.engine.state import TrainState

Losses = dict[str, jax.Array]
EVERYWHERE = PartitionSpec()


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


class Draw(NamedTuple):
    """Rows in groups of alternatives: every step draws different groups, and one row of each.

    Attributes:
      first, size: int32 [groups], where the rows of each group begin, and how many there are.
    """

    first: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, group: np.ndarray) -> "Draw":
        """From the group [n] of each row, ascending from 0."""
        size = np.bincount(group).astype(np.int32)
        return cls((np.cumsum(size) - size).astype(np.int32), size)

    def order(self, key: jax.Array, batch_size: int, width: int) -> jax.Array:
        """Row ids [groups, width]: one step for each group there is; gaps as in `batch_order`."""
        n_groups, n_rows = len(self.size), int(self.size.sum())
        group_key, row_key = jax.random.split(key)
        keys = jax.random.split(group_key, n_groups)
        groups = jax.vmap(lambda k: jax.random.permutation(k, n_groups)[:batch_size])(keys)
        size = jnp.asarray(self.size)[groups]
        uniform = jax.random.uniform(row_key, groups.shape)
        place = jnp.minimum((uniform * size.astype(jnp.float32)).astype(jnp.int32), size - 1)
        rows = jnp.asarray(self.first)[groups] + place
        return jnp.pad(rows, ((0, 0), (0, width - batch_size)), constant_values=n_rows)


class Plan(NamedTuple):
    """What an epoch does, apart from where.

    Attributes:
      n_rows: rows without the empty one at the end.
      batch_size: rows a step, over all devices together.
      passes: over the rows in one epoch.
      precision: of matrix products; JAX's default rounds float32 to TF32 on GPUs and bfloat16 on TPUs.
      draw: where rows are drawn by groups; None: every pass is a permutation of all rows.
    """

    n_rows: int
    batch_size: int
    passes: int = 1
    precision: str = "highest"
    draw: Draw | None = None

    @property
    def steps(self) -> int:
        """Of one compiled call."""
        return self.passes * (len(self.draw.size) if self.draw else math.ceil(self.n_rows / self.batch_size))

    def schedule(self, state: TrainState, width: int) -> tuple[jax.Array, jax.Array]:
        """Row ids [steps, width] and a key for every step of the call after `state`."""

        def one_pass(number: jax.Array) -> tuple[jax.Array, jax.Array]:
            order_key, step_key = jax.random.split(jax.random.fold_in(key, number))
            if self.draw:
                orders = self.draw.order(order_key, self.batch_size, width)
            else:
                orders = batch_order(order_key, self.n_rows, self.batch_size, width)
            return orders, jax.random.split(step_key, len(orders))

        key = jax.random.wrap_key_data(state.key)
        schedule = jax.vmap(one_pass)(state.calls * self.passes + jnp.arange(self.passes, dtype=jnp.int32))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), schedule)


def stop_gradients(task: Task, params: Any, frozen: frozenset[str]) -> Any:
    """The parameters, those of frozen groups cut off from the gradient."""
    if not frozen or task.groups is None:
        return params
    return jax.tree.map(lambda x, g: jax.lax.stop_gradient(x) if g in frozen else x, params, task.groups.label(params))


def global_loss_and_grads(
    task: Task, variables: Variables, batch: Mapping[str, Any], key: jax.Array, frozen: frozenset[str] = frozenset()
) -> tuple[Losses, Any, Any]:
    """Loss of the whole batch, whatever part of it this device holds, the new state, and the gradient.

    The psums stand *inside* the differentiated function: under shard_map's replication checks the gradient
    of replicated parameters then comes out summed exactly once. Reducing it again by hand
    (`pmean(grad(...))`) would multiply it by the number of devices, and Adam would hide that.
    """

    def loss(params):
        total, count, sums, state = task.loss(
            Variables(stop_gradients(task, params, frozen), variables.state), batch, key, DATA_AXIS
        )
        total, count, sums = jax.lax.psum((total, count, dict(sums)), DATA_AXIS)
        count = jnp.where(count > 0, count, 1)  # a small batch of a streamed chunk can have empty rows only
        return total / count, ({name: value / count for name, value in sums.items()}, state)

    (value, (parts, state)), grads = jax.value_and_grad(loss, has_aux=True)(variables.params)
    return {"loss": value} | parts, state, grads


def run_steps(
    task: Task, optimizer: optax.GradientTransformation, take: Callable = take, frozen: frozenset[str] = frozenset()
) -> Callable:
    """On a device: ((variables, optimiser state), ids [steps, b], keys, rows, constants) -> (the same, losses [steps]).

    A constant `learning_rate` scales the updates: so one optimiser of rate 1 serves members of different rates.
    """

    def run(trained, orders, keys, rows, constants):
        def step(carry, inputs):
            (variables, opt_state), (ids, key) = carry, inputs
            fields = (name for name in (*task.fields, "row") if name in rows)  # in one order in all processes
            batch = constants | take({name: rows[name] for name in fields}, ids)
            values, state, grads = global_loss_and_grads(task, variables, batch, key, frozen)
            updates, opt_state = optimizer.update(grads, opt_state, variables.params)
            if "learning_rate" in constants:
                updates = jax.tree.map(lambda u: constants["learning_rate"] * u, updates)
            return (Variables(optax.apply_updates(variables.params, updates), state), opt_state), values

        return jax.lax.scan(step, trained, (orders, keys))

    return run


def compile_epoch(
    task: Task,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    plan: Plan,
    specs: Any = None,
    frozen: frozenset[str] = frozenset(),
) -> Callable[[TrainState, Mapping[str, Any], Mapping[str, Any]], tuple[TrainState, Losses]]:
    """Builds epoch(state, rows, constants) -> (state, losses), jitted, its state donated.

    Args:
      task, optimizer: what to train and how.
      mesh: one axis, `data`; each device takes its share of every batch.
      plan: of the epoch.
      specs: of rows that are shared out among the devices (`placement.column_specs`); None: every device has all.
      frozen: groups of parameters that do not train yet.

    Returns:
      The epoch; its losses have one value per step.
    """
    width = math.ceil(plan.batch_size / mesh.size) * mesh.size
    split = PartitionSpec(None, DATA_AXIS)
    mapped = jax.shard_map(
        run_steps(task, optimizer, take if specs is None else take_shared, frozen),
        mesh=mesh,
        in_specs=(
            EVERYWHERE,
            split if specs is None else EVERYWHERE,
            EVERYWHERE,
            EVERYWHERE if specs is None else specs,
            EVERYWHERE,
        ),
        out_specs=EVERYWHERE,
    )

    def epoch(state: TrainState, rows: Mapping[str, Any], constants: Mapping[str, Any]):
        orders, keys = plan.schedule(state, width)
        with jax.default_matmul_precision(plan.precision):
            (variables, opt_state), losses = mapped((state.variables, state.opt_state), orders, keys, rows, constants)
        return TrainState(variables, opt_state, state.calls + jnp.int32(1), state.key), losses

    return jax.jit(epoch, donate_argnums=0)
