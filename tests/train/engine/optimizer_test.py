import jax.numpy as jnp
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.train.engine.optimizer import OPTIMIZERS, make_optimizer, make_schedule


def test_schedules_by_hand():
    cosine = make_schedule(0.1, "cosine", warmup_steps=4, total_steps=24)
    assert [float(cosine(s)) for s in (0, 2, 4, 14, 24)] == pytest.approx([0, 0.05, 0.1, 0.05, 0], abs=1e-8)
    linear = make_schedule(0.1, "linear", warmup_steps=0, total_steps=10)
    assert [float(linear(s)) for s in (0, 5, 10)] == pytest.approx([0.1, 0.05, 0])
    assert float(make_schedule(0.1, "constant", 0, 10)(7)) == pytest.approx(0.1)


def test_the_exponential_schedule_falls_after_every_pass():
    rate = make_schedule(0.1, "exponential", 0, 100, steps_per_pass=5, decay=0.98)
    found = [float(rate(s)) for s in (0, 4, 5, 9, 10, 50)]
    assert found == pytest.approx([0.1, 0.1, 0.098, 0.098, 0.1 * 0.98**2, 0.1 * 0.98**10])


def test_rmsprop_is_that_of_torch_by_hand():
    """v = 0.99 v + 0.01 g^2;  w -= rate g / (sqrt(v) + 1e-8)."""
    optimizer = make_optimizer(name="rmsprop", learning_rate=0.1, total_steps=5)
    state, v = optimizer.init({"w": jnp.zeros(1)}), 0.0
    for g in (2.0, -1.0, 1e-9):
        v = 0.99 * v + 0.01 * g * g
        updates, state = optimizer.update({"w": jnp.array([g])}, state)
        np.testing.assert_allclose(updates["w"], [-0.1 * g / (np.sqrt(v) + 1e-8)], rtol=1e-4)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_goes_downhill(name):
    optimizer = make_optimizer(name=name, learning_rate=0.1, total_steps=5)
    params = {"w": jnp.array([1.0, -2.0])}
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert (np.sign(updates["w"]) == [-1, 1]).all()


def test_sgd_momentum_and_clipping_by_hand():
    optimizer = make_optimizer(name="sgd", learning_rate=1.0, total_steps=5, momentum=0.5, clip_norm=1.0)
    gradient = {"w": jnp.array([3.0, 4.0])}  # norm 5: clipped to 0.6, 0.8
    state = optimizer.init(gradient)
    first, state = optimizer.update(gradient, state)
    second, _ = optimizer.update(gradient, state)
    np.testing.assert_allclose(first["w"], [-0.6, -0.8], rtol=1e-6)
    np.testing.assert_allclose(second["w"], [-0.9, -1.2], rtol=1e-6)


def test_adamw_decays():
    optimizer = make_optimizer(name="adamw", learning_rate=0.1, total_steps=5, weight_decay=0.5)
    params = {"w": jnp.array([2.0])}
    updates, _ = optimizer.update({"w": jnp.array([0.0])}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.1], rtol=1e-6)  # rate x decay x weight


def test_unknown_names():
    with pytest.raises(UserError, match="did you mean 'adam'"):
        make_optimizer(name="addam", learning_rate=0.1, total_steps=5)
    with pytest.raises(UserError, match="did you mean 'cosine'"):
        make_optimizer(name="sgd", learning_rate=0.1, total_steps=5, schedule="cosin")
