"""One compiled epoch: the same on one device and on eight, and what must make it differ."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from demjax.checks import UserError
from demjax.data.batches import class_sums, examples
from demjax.data.sources.planted import plant
from demjax.mesh import DATA_AXIS, data_mesh, replicate
from demjax.search import Score
from demjax.tasks import Groups, Task, Variables
from demjax.tasks.zsl.dem import dem
from demjax.train.engine import epoch as epoch_module
from demjax.train.engine.epoch import Draw, Plan, batch_order, compile_epoch
from demjax.train.engine.optimizer import check_groups, frozen_in, make_optimizer
from demjax.train.engine.placement import place_rows
from demjax.train.engine.state import init_state
from tests.waiting import HUNG

# 9 seen classes x 10 images: 90 rows, batches of 13 (neither divides by 8), the last one of 12.
DATASET = plant(n_classes=12, n_unseen=3, n_attributes=6, n_features=20, images_per_class=13)


def train(n_devices, *, rows=examples, batch_size=13, passes=2, epochs=2, name="sgd"):
    """Parameters and losses after some epochs of SGD: Adam would hide a gradient that is k times too large."""
    task = dem(DATASET.spec, hidden=16, l2=0.01)
    optimizer = make_optimizer(name=name, learning_rate=1e-3, total_steps=100)
    mesh = data_mesh(jax.devices()[:n_devices])
    made = rows(DATASET)
    n_rows = made.n_rows
    run = compile_epoch(task, optimizer, mesh, Plan(n_rows=n_rows, batch_size=min(batch_size, n_rows), passes=passes))
    state = replicate(init_state(task, optimizer, seed=0), mesh)
    placed, constants = place_rows(made, task.fields, mesh), replicate(task.constants(DATASET), mesh)
    losses = []
    for _ in range(epochs):
        state, values = jax.block_until_ready(run(state, placed, constants))
        losses.append(np.array(values["loss"]))
    return [np.array(p) for p in jax.tree.leaves(state.variables)], np.concatenate(losses)


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


def summed_once_too_often(task, variables, batch, key, frozen):
    """The trap: autodiff under shard_map has already summed; pmean then leaves n times the gradient."""

    def local(p):
        total, count, sums, _ = task.loss(Variables(p), batch, key, DATA_AXIS)
        return total / lax.psum(count, DATA_AXIS) * lax.psum(1, DATA_AXIS), sums

    (value, _), grads = jax.value_and_grad(local, has_aux=True)(variables.params)
    return {"loss": lax.pmean(value, DATA_AXIS)}, variables.state, lax.pmean(grads, DATA_AXIS)


def mean_of_local_means(task, variables, batch, key, frozen):
    """Each device divides by its own count: wrong as soon as the shares of a batch are uneven."""

    def loss(p):
        total, count, *_ = task.loss(Variables(p), batch, key, DATA_AXIS)
        return lax.pmean(total / jnp.maximum(count, 1), DATA_AXIS)

    value, grads = jax.value_and_grad(loss)(variables.params)
    return {"loss": value}, variables.state, grads


def local_only(task, variables, batch, key, frozen):
    """Device 0 alone is heard."""

    def loss(p):
        total, count, *_ = task.loss(Variables(p), batch, key, DATA_AXIS)
        mine = jnp.where(lax.axis_index(DATA_AXIS) == 0, 1.0, 0.0)
        return lax.psum(mine * total / jnp.maximum(count, 1), DATA_AXIS)

    value, grads = jax.value_and_grad(loss)(variables.params)
    return {"loss": value}, variables.state, grads


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
        task = dem(DATASET.spec, hidden=16, l2=0.0)
        optimizer = make_optimizer(name="sgd", learning_rate=1e-12, total_steps=10)
        mesh = data_mesh(jax.devices()[:n_devices])
        run = compile_epoch(task, optimizer, mesh, Plan(n_rows=90, batch_size=13, passes=passes))
        state = replicate(init_state(task, optimizer, seed=0), mesh)
        rows, constants = place_rows(examples(DATASET), task.fields, mesh), replicate(task.constants(DATASET), mesh)
        values_of_epochs = []
        for _ in range(epochs):
            state, values = jax.block_until_ready(run(state, rows, constants))
            values_of_epochs.append(np.array(values["loss"]))
        return np.concatenate(values_of_epochs)

    one = losses(1, 1, 2)
    assert not np.allclose(one[:7], one[7:])
    np.testing.assert_allclose(losses(8, 1, 2), one, rtol=1e-5)
    np.testing.assert_allclose(losses(1, 2, 1), one, rtol=1e-5)  # two passes in one epoch are two epochs of one


def test_state_is_donated():
    task = dem(DATASET.spec, hidden=16)
    optimizer = make_optimizer(name="adam", learning_rate=1e-3, total_steps=10)
    mesh = data_mesh(jax.devices()[:1])
    run = compile_epoch(task, optimizer, mesh, Plan(n_rows=90, batch_size=13))
    state = replicate(init_state(task, optimizer, seed=0), mesh)
    run(state, place_rows(examples(DATASET), task.fields, mesh), task.constants(DATASET))
    assert all(x.is_deleted() for x in jax.tree.leaves((state.variables, state.opt_state)))


@pytest.mark.parametrize("precision", ["highest", "default"])
def test_every_product_of_a_step_has_the_precision_asked_for(precision):
    """Forward and backward, whatever JAX's default."""
    task = dem(DATASET.spec, hidden=16)
    optimizer = make_optimizer(name="sgd", learning_rate=1e-3, total_steps=10)
    mesh = data_mesh(jax.devices()[:1])
    run = compile_epoch(task, optimizer, mesh, Plan(n_rows=90, batch_size=13, precision=precision))
    rows = place_rows(examples(DATASET), task.fields, mesh)
    arguments = (init_state(task, optimizer, 0), rows, task.constants(DATASET))
    with jax.default_matmul_precision("bfloat16"):
        text = run.lower(*arguments).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) == 5  # two forward; one to the hidden layer and two to the weights backward
    assert all(precision.upper() in line for line in products)


# --- rows by groups -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "width"), [(3, 3), (3, 8), (5, 5), (1, 4)])
def test_a_step_draws_different_groups_and_one_row_of_each(batch_size, width):
    group = np.repeat(np.arange(5), [4, 1, 7, 2, 3])
    draw = Draw.of(group)
    orders = np.array(draw.order(jax.random.key(3), batch_size, width))
    assert orders.shape == (5, width)
    assert (orders[:, batch_size:] == len(group)).all(), "gaps are the empty row"
    groups = group[orders[:, :batch_size]]
    assert all(len(set(row)) == batch_size for row in groups)


def test_rows_of_a_group_are_drawn_evenly_and_the_same_whatever_the_width():
    group = np.repeat(np.arange(3), [2, 3, 5])
    draw = Draw.of(group)
    orders = [np.array(draw.order(jax.random.key(i), 3, 3)) for i in range(400)]
    counts = np.bincount(np.concatenate(orders).ravel(), minlength=10)
    for g, size in enumerate([2, 3, 5]):  # 1,200 draws of every group
        np.testing.assert_allclose(counts[group == g], 1200 / size, rtol=0.25)
    np.testing.assert_array_equal(draw.order(jax.random.key(7), 2, 8)[:, :2], draw.order(jax.random.key(7), 2, 2))


# --- a state beside the parameters, and groups that begin to train later -----------------------------------


def running_mean(spec, per_device=False):
    """Least squares to the mean of a batch that a running average follows: a BatchNorm in small."""

    def loss(variables, batch, key, axis):
        x, weight = batch["features"], batch["weight"]
        total, count = jnp.sum(weight[:, None] * x, axis=0), jnp.sum(weight)
        if not per_device:
            total, count = lax.psum((total, count), axis)
        mean = 0.5 * variables.state["mean"] + 0.5 * total / jnp.maximum(count, 1)
        if per_device:
            mean = lax.pmean(mean, axis)
        params = variables.params
        fit = jnp.sum(weight * jnp.sum((x - params["w"][None] - params["b"][None]) ** 2, axis=1))
        return fit, jnp.sum(weight), {}, {"mean": mean}

    start = {"w": jnp.zeros(spec.n_features), "b": jnp.ones(spec.n_features)}
    return Task(
        name="running_mean",
        score=Score(),
        embed={},
        protocols=(),
        init=lambda key: Variables(start, {"mean": jnp.zeros(spec.n_features)}),
        loss=loss,
        fields=("features", "weight"),
        batchings={"examples": examples},
        groups=Groups(lambda params: {name: name for name in params}, start={"b": 1}),
    )


def trained(n_devices, epochs=2, per_device=False, name="sgd"):
    """The state after some epochs, and the batches, in NumPy."""
    task, mesh = running_mean(DATASET.spec, per_device), data_mesh(jax.devices()[:n_devices])
    plan, rows = Plan(90, 13), examples(DATASET)
    settings = dict(name=name, learning_rate=1e-2, total_steps=100, groups=task.groups, names=("b", "w"))
    state = replicate(init_state(task, make_optimizer(**settings), seed=0), mesh)
    batches = []
    for epoch in range(epochs):
        batches.append(np.array(plan.schedule(state, 13)[0]))
        frozen = frozen_in(task.groups, epoch)
        run = compile_epoch(task, make_optimizer(**settings, frozen=frozen), mesh, plan, frozen=frozen)
        state, _ = jax.block_until_ready(run(state, place_rows(rows, task.fields, mesh), {}))
    return state, [ids[ids < 90] for ids in np.concatenate(batches)]


@pytest.mark.parametrize("n_devices", [1, 8])
def test_the_state_is_that_of_the_global_batch(n_devices):
    state, batches = trained(n_devices)
    x, mean = DATASET.features[DATASET.splits["trainval"]].astype(np.float64), 0.0
    for ids in batches:
        mean = 0.5 * mean + 0.5 * x[ids].mean(axis=0)
    np.testing.assert_allclose(state.variables.state["mean"], mean, rtol=1e-5)


def test_a_state_of_each_device_is_another_one():
    """The mutant: averages of what each device has seen, with padding."""
    honest, local = (np.asarray(trained(8, per_device=p)[0].variables.state["mean"]) for p in (False, True))
    assert not np.allclose(honest, local, rtol=1e-3)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_frozen_group_stays_and_its_moments_begin_with_it(name):
    """By hand: in the first epoch b is 1, then it moves as if its optimiser had just begun."""
    x = DATASET.features[DATASET.splits["trainval"]].astype(np.float64)
    first, _ = trained(1, epochs=1, name=name)
    np.testing.assert_array_equal(first.variables.params["b"], np.ones(20, np.float32))
    state, batches = trained(1, epochs=2, name=name)
    w, b = np.zeros(20), np.ones(20)
    moments = {"w": [0.0, 0.0, 0], "b": [0.0, 0.0, 0]}

    def step(key, value, g):
        if name == "sgd":
            return value - 1e-2 * g
        m = moments[key]
        m[0], m[1], m[2] = 0.9 * m[0] + 0.1 * g, 0.999 * m[1] + 0.001 * g * g, m[2] + 1
        return value - 1e-2 * (m[0] / (1 - 0.9 ** m[2])) / (np.sqrt(m[1] / (1 - 0.999 ** m[2])) + 1e-8)

    for number, ids in enumerate(batches):
        g = -2 * (x[ids] - w - b).mean(axis=0)
        w, b = step("w", w, g), b if number < 7 else step("b", b, g)
    np.testing.assert_allclose(state.variables.params["w"], w, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(state.variables.params["b"], b, rtol=2e-3, atol=2e-4)


def test_no_gradient_of_a_frozen_group_is_computed():
    """One compiled step a phase: the frozen one has fewer operations."""
    task, mesh = running_mean(DATASET.spec), data_mesh(jax.devices()[:1])
    variables = task.init(jax.random.key(0))
    batch = {"features": jnp.full((4, 20), 3.0), "weight": jnp.ones(4)}

    def gradients(frozen):
        def local(variables, batch):
            return epoch_module.global_loss_and_grads(task, variables, batch, jax.random.key(0), frozen)[2]

        spec = jax.sharding.PartitionSpec()
        return jax.shard_map(local, mesh=mesh, in_specs=(spec, spec), out_specs=spec)(variables, batch)

    assert not np.asarray(gradients(frozenset({"b"}))["b"]).any()
    assert np.asarray(gradients(frozenset())["b"]).all()


def test_groups_that_do_not_fit():
    with pytest.raises(UserError, match="the groups of the task name 'heads': expected body, head"):
        check_groups(Groups(lambda p: p, start={"heads": 1}), ("head", "body"))
    with pytest.raises(UserError, match="group 'head' begins in epoch -1"):
        check_groups(Groups(lambda p: p, start={"head": -1}), ("head", "body"))


LOWERED = """
import hashlib, jax
from demjax.data.batches import examples
from demjax.data.sources.planted import plant
from demjax.mesh import data_mesh
from demjax.tasks.zsl.dem import dem
from demjax.train.engine.epoch import Plan, compile_epoch
from demjax.train.engine.optimizer import make_optimizer
from demjax.train.engine.placement import place_rows
from demjax.train.engine.state import init_state
data = plant(n_classes=6, n_unseen=2, n_attributes=3, n_features=4, images_per_class=5)
task, mesh = dem(data.spec, hidden=3), data_mesh(jax.devices()[:1])
optimizer = make_optimizer(name="sgd", learning_rate=1e-3, total_steps=3)
epoch = compile_epoch(task, optimizer, mesh, Plan(n_rows=16, batch_size=8))
rows = place_rows(examples(data), task.fields, mesh)
lowered = epoch.lower(init_state(task, optimizer, 0), rows, task.constants(data))
print(hashlib.sha256(lowered.as_text().encode()).hexdigest())
"""


def test_all_processes_compile_the_same_program():
    """The order of a set differs from process to process: a program that followed it would differ, too."""
    command = [sys.executable, "-c", LOWERED]
    started = [
        subprocess.Popen(command, env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, text=True)
        for seed in ("0", "1", "2")
    ]
    digests = {process.communicate(timeout=HUNG)[0] for process in started}
    assert len(digests) == 1 and all(len(digest) == 65 for digest in digests)
