import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from demjax import losses


def test_squared_distance_by_loops():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 5, 3)).astype(np.float32)
    expected = [sum((x[i][j] - y[i][j]) ** 2 for j in range(3)) for i in range(5)]
    np.testing.assert_allclose(losses.squared_distance(jnp.array(x), jnp.array(y)), expected, rtol=1e-6)
    loss = lambda p: losses.squared_distance(jnp.array(x), jnp.asarray(p)).sum()  # noqa: E731
    check_grads(loss, (jnp.array(y),), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_squared_norm_with_and_without_biases():
    params = {"kernel": jnp.array([[1.0, 2.0]]), "bias": jnp.array([3.0, 4.0])}
    assert losses.squared_norm(params, biases=False) == 5
    assert losses.squared_norm(params, biases=True) == 30
