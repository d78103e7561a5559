"""A small planted set, and what the engine does with a task, for the tests of tasks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from demjax.data.sources.planted import plant
from demjax.mesh import DATA_AXIS, data_mesh
from demjax.tasks import Variables

DATA = plant(n_classes=12, n_unseen=3, n_attributes=6, n_features=20, images_per_class=13)
X = DATA.features[DATA.splits["trainval"]].astype(np.float64)
LABELS = DATA.labels[DATA.splits["trainval"]]
SEEN = DATA.seen
TRUTH = np.searchsorted(SEEN, LABELS)
UNIT_X = X / np.linalg.norm(X, axis=1, keepdims=True)


def unit(a):
    a = np.asarray(a, np.float64)
    return a / np.linalg.norm(a, axis=1, keepdims=True)


UNIT_A = unit(DATA.semantics)


def start(task, data=DATA, seed=0, params=None):
    """The variables before training, with `params` in place of those of `init`."""
    variables = jax.jit(task.init)(jax.random.key(seed))
    statistics = {name: jnp.asarray(value) for name, value in task.statistics(data).items()}
    return Variables(variables.params if params is None else params, {**variables.state, **statistics})


def rows_of(task, data=DATA, batching=None):
    """The columns that the loss reads, and the number of each row; the last one is empty."""
    made = task.batchings[batching or next(iter(task.batchings))](data)
    columns = {name: np.asarray(made.columns[name]) for name in task.fields}
    return columns | {"row": np.arange(made.n_rows + 1, dtype=np.int32)}


def batch_of(task, data=DATA, rows=None, batching=None):
    """These rows (default: all, with the empty one) and the constants, as a loss receives them."""
    columns = rows_of(task, data, batching)
    columns = columns if rows is None else {name: column[np.asarray(rows)] for name, column in columns.items()}
    return {name: jnp.asarray(value) for name, value in (columns | dict(task.constants(data))).items()}


def mean_loss(task, variables, data=DATA, batching=None):
    """Of all training images, as the engine divides it; the empty row at the end must not count."""
    total, count, _, state = task.loss(variables, batch_of(task, data, None, batching), jax.random.key(0), DATA_AXIS)
    assert state is variables.state
    assert float(count) == len(data.splits["trainval"])
    return float(total / count)


def embed(task, side, variables, ids, data=DATA):
    """The embedded items of a side: images and sentences compiled, as arrays of tokens; classes not."""
    items = data.items(side, np.asarray(ids), task.columns(side))
    items = {name: task.tokens[name](column) if name in task.tokens else column for name, column in items.items()}
    run = task.embed[side] if side == "class" else jax.jit(task.embed[side])
    return np.asarray(run(variables, items))


def all_scores(task, variables, n=6):
    """Inner products of the first images with all classes."""
    images, classes = embed(task, "image", variables, np.arange(n)), embed(task, "class", variables, np.arange(12))
    return images.astype(np.float64) @ classes.astype(np.float64).T


def on_mesh(task, variables, batch, key, devices=None):
    """(losses, gradient) of one batch spread over some devices, as the engine computes them."""
    mesh, everywhere, split = data_mesh(devices or jax.devices()[:1]), jax.P(), jax.P(DATA_AXIS)
    parts = {name: split if name in (*task.fields, "row") else everywhere for name in batch}

    def losses_and_gradient(variables, batch):
        def loss(params):
            given = variables._replace(params=params)
            total, count, sums = jax.lax.psum(task.loss(given, batch, key, DATA_AXIS)[:3], DATA_AXIS)
            return total / count, {"loss": total / count} | {name: value / count for name, value in sums.items()}

        gradient, losses = jax.grad(loss, has_aux=True)(variables.params)
        return losses, gradient

    run = jax.shard_map(losses_and_gradient, mesh=mesh, in_specs=(everywhere, parts), out_specs=everywhere)
    with jax.default_matmul_precision("highest"):
        return jax.jit(run)(variables, batch)


def train(task, optimizer, variables, batches, data=DATA, devices=None):
    """(variables, losses [steps]) after a step for each of the `batches`, rows of equal number."""
    mesh, everywhere, split = data_mesh(devices or jax.devices()[:1]), jax.P(), jax.P(DATA_AXIS)
    batch = batch_of(task, data)
    rows = {name: batch.pop(name) for name in (*task.fields, "row")}

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(everywhere, everywhere, split, everywhere), out_specs=everywhere
    )
    def step(variables, opt_state, ids, key):
        def loss(params):
            part = batch | {name: column[ids] for name, column in rows.items()}
            given = variables._replace(params=params)
            total, count = jax.lax.psum(task.loss(given, part, key, DATA_AXIS)[:2], DATA_AXIS)
            return total / count

        value, gradient = jax.value_and_grad(loss)(variables.params)
        with jax.numpy_dtype_promotion("standard"):  # optax raises its rates to the power of a count
            updates, opt_state = optimizer.update(gradient, opt_state, variables.params)
        return variables._replace(params=optax.apply_updates(variables.params, updates)), opt_state, value

    opt_state, values, step = optimizer.init(variables.params), [], jax.jit(step)
    with jax.default_matmul_precision("highest"):
        for number, ids in enumerate(batches):
            key = jax.random.key(number)
            variables, opt_state, value = step(variables, opt_state, jnp.asarray(ids, jnp.int32), key)
            values.append(float(value))
    return variables, np.array(values)


def violations(scores, truth, margin):
    v = np.maximum(0, margin + scores - scores[np.arange(len(scores)), truth][:, None])
    v[np.arange(len(v)), truth] = 0
    return v
