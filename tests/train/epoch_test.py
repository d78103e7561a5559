"""One compiled epoch: the same on one device and on eight, and what must make it differ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from demjax.data.batches import class_sums, examples
from demjax.data.sources import planted as synthetic
from demjax.mesh import DATA_AXIS, data_mesh, replicate
from demjax.tasks.dem import dem
from demjax.train import epoch as epoch_module
from demjax.train.epoch import Plan, batch_order, compile_epoch, init_state
from demjax.train.optimizer import make_optimizer

# 9 seen classes x 10 images: 90 rows, batches of 13 (neither divides by 8), the last one of 12.
DATASET = synthetic.plant(n_classes=12, n_unseen=3, n_attributes=6, n_features=20, images_per_class=13)


def train(n_devices, *, rows=examples, batch_size=13, passes=2, epochs=2, name="sgd"):
    """Parameters and losses after some epochs of SGD: Adam would hide a gradient that is k times too large."""
    task = dem(DATASET, hidden=16, l2=0.01)
    optimizer = make_optimizer(name=name, learning_rate=1e-3, total_steps=100)
    mesh = data_mesh(jax.devices()[:n_devices])
    made = rows(DATASET).columns
    n_rows = len(made["weight"]) - 1
    run = compile_epoch(task, optimizer, mesh, Plan(n_rows=n_rows, batch_size=min(batch_size, n_rows), passes=passes))
    state = replicate(init_state(task, optimizer, seed=0), mesh)
    made, tables = replicate({k: made[k] for k in task.fields}, mesh), replicate(dict(task.tables), mesh)
    losses = []
    for _ in range(epochs):
        state, values = jax.block_until_ready(run(state, made, tables))
        losses.append(np.array(values["loss"]))
    return [np.array(p) for p in jax.tree.leaves(state.params)], np.concatenate(losses)


def assert_same_training(n_devices, **kwargs):
    (one, one_losses), (many, many_losses) = train(1, **kwargs), train(n_devices, **kwargs)
    np.testing.assert_allclose(many_losses, one_losses, rtol=2e-5)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-5, atol=2e-5 * np.abs(a).max())


@pytest.mark.parametrize("n_devices", [3, 8])
@pytest.mark.parametrize("rows", [examples, class_sums], ids=["examples", "class_sums"])
def test_one_device_equals_many(n_devices, rows):
    assert_same_training(n_devices, rows=rows)


# --- mutants: each is a mistake that trains, and that the test above must catch ---------------------------


def summed_once_too_often(task, params, batch, key):
    """The trap: autodiff under shard_map has already summed; pmean then leaves n times the gradient."""

    def local(p):
        total, count, sums = task.loss(p, batch, key, DATA_AXIS)
        return total / lax.psum(count, DATA_AXIS) * lax.psum(1, DATA_AXIS), sums

    (value, _), grads = jax.value_and_grad(local, has_aux=True)(params)
    return {"loss": lax.pmean(value, DATA_AXIS)}, lax.pmean(grads, DATA_AXIS)


def mean_of_local_means(task, params, batch, key):
    """Each device divides by its own count: wrong as soon as the shares of a batch are uneven."""

    def loss(p):
        total, count, _ = task.loss(p, batch, key, DATA_AXIS)
        return lax.pmean(total / jnp.maximum(count, 1), DATA_AXIS)

    value, grads = jax.value_and_grad(loss)(params)
    return {"loss": value}, grads


def local_only(task, params, batch, key):
    """Device 0 alone is heard."""

    def loss(p):
        total, count, _ = task.loss(p, batch, key, DATA_AXIS)
        mine = jnp.where(lax.axis_index(DATA_AXIS) == 0, 1.0, 0.0)
        return lax.psum(mine * total / jnp.maximum(count, 1), DATA_AXIS)

    value, grads = jax.value_and_grad(loss)(params)
    return {"loss": value}, grads


@pytest.mark.parametrize("mutant", [summed_once_too_often, mean_of_local_means, local_only])
def test_mutants_fail(mutant, monkeypatch):
    monkeypatch.setattr(epoch_module, "global_loss_and_grads", mutant)
    with pytest.raises(AssertionError):
        assert_same_training(8)


def test_the_gradient_trap_is_real(monkeypatch):
    """The first mutant differs in its gradients only, by the number of devices: losses of step one agree."""
    honest = train(8, epochs=1, passes=1)[1][0]
    monkeypatch.setattr(epoch_module, "global_loss_and_grads", summed_once_too_often)
    assert train(8, epochs=1, passes=1)[1][0] == pytest.approx(honest, rel=1e-5)


# --- order and padding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_rows", "batch_size", "width"), [(90, 13, 16), (5, 5, 8), (7, 1, 1), (8, 3, 3)])
def test_every_row_once_and_gaps_are_the_empty_row(n_rows, batch_size, width):
    order = np.array(batch_order(jax.random.key(0), n_rows, batch_size, width))
    assert order.shape == (-(-n_rows // batch_size), width)
    assert sorted(order[order < n_rows]) == list(range(n_rows))
    assert ((order >= n_rows) == (order == n_rows)).all()
    full = order[:-1]
    assert ((full < n_rows).sum(axis=1) == batch_size).all(), "every batch but the last is full"


def test_order_changes_with_the_pass_and_not_with_the_devices():
    """Losses under a rate of zero depend on the batches alone."""

    def losses(n_devices, passes, epochs):
        task = dem(DATASET, hidden=16, l2=0.0)
        optimizer = make_optimizer(name="sgd", learning_rate=1e-12, total_steps=10)
        mesh = data_mesh(jax.devices()[:n_devices])
        rows = examples(DATASET).columns
        run = compile_epoch(task, optimizer, mesh, Plan(n_rows=90, batch_size=13, passes=passes))
        state = replicate(init_state(task, optimizer, seed=0), mesh)
        rows = replicate({k: rows[k] for k in task.fields}, mesh)
        told = []
        for _ in range(epochs):
            state, values = jax.block_until_ready(run(state, rows, replicate(dict(task.tables), mesh)))
            told.append(np.array(values["loss"]))
        return np.concatenate(told)

    one = losses(1, 1, 2)
    assert not np.allclose(one[:7], one[7:])
    np.testing.assert_allclose(losses(8, 1, 2), one, rtol=1e-5)
    np.testing.assert_allclose(losses(1, 2, 1), one, rtol=1e-5)  # two passes in one epoch are two epochs of one


def test_state_is_donated():
    task = dem(DATASET, hidden=16)
    optimizer = make_optimizer(name="adam", learning_rate=1e-3, total_steps=10)
    mesh = data_mesh(jax.devices()[:1])
    rows = examples(DATASET).columns
    run = compile_epoch(task, optimizer, mesh, Plan(n_rows=90, batch_size=13))
    state = replicate(init_state(task, optimizer, seed=0), mesh)
    run(state, {k: rows[k] for k in task.fields}, dict(task.tables))
    assert all(x.is_deleted() for x in jax.tree.leaves((state.params, state.opt_state)))


@pytest.mark.parametrize("precision", ["highest", "default"])
def test_every_product_of_a_step_has_the_precision_asked_for(precision):
    """Forward and backward, whatever JAX's default."""
    task = dem(DATASET, hidden=16)
    optimizer = make_optimizer(name="sgd", learning_rate=1e-3, total_steps=10)
    rows = examples(DATASET).columns
    run = compile_epoch(
        task, optimizer, data_mesh(jax.devices()[:1]), Plan(n_rows=90, batch_size=13, precision=precision)
    )
    arguments = (init_state(task, optimizer, 0), {k: rows[k] for k in task.fields}, dict(task.tables))
    with jax.default_matmul_precision("bfloat16"):
        text = run.lower(*arguments).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) == 5  # two forward; one to the hidden layer and two to the weights backward
    assert all(precision.upper() in line for line in products)
