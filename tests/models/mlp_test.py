import jax
import numpy as np
import pytest
from flax import nnx

from demjax.models import INITIALISERS, SemanticEncoder


@pytest.mark.parametrize("init", sorted(INITIALISERS))
def test_forward_by_loops(init):
    model = SemanticEncoder(3, 5, 4, init=init, rngs=nnx.Rngs(jax.random.key(0)))
    w1, b1 = np.asarray(model.hidden.kernel[...]), np.asarray(model.hidden.bias[...])
    w2, b2 = np.asarray(model.visual.kernel[...]), np.asarray(model.visual.bias[...])
    y = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    hidden = [[max(0.0, sum(y[i][a] * w1[a][h] for a in range(3)) + b1[h]) for h in range(5)] for i in range(2)]
    visual = [[max(0.0, sum(hidden[i][h] * w2[h][d] for h in range(5)) + b2[d]) for d in range(4)] for i in range(2)]
    np.testing.assert_allclose(model(jax.numpy.asarray(y)), visual, rtol=1e-5, atol=1e-6)


def test_released_initialisation_is_the_law_of_the_scripts():
    """Truncated normal of stddev 0.1 cut at two sigma: effective std 0.0880; biases 0.1."""
    model = SemanticEncoder(300, 400, 10, init="released", rngs=nnx.Rngs(jax.random.key(0)))
    kernel = np.asarray(model.hidden.kernel[...])
    assert np.abs(kernel).max() <= 0.2
    assert kernel.std() == pytest.approx(0.0880, rel=0.01)
    np.testing.assert_array_equal(model.visual.bias[...], np.float32(0.1))


def test_parameter_count_of_the_released_cub_script():
    shapes = nnx.eval_shape(lambda: SemanticEncoder(312, 1200, 2048, init="released", rngs=nnx.Rngs(0)))
    assert sum(x.size for x in jax.tree.leaves(nnx.state(shapes, nnx.Param))) == 2_835_248
