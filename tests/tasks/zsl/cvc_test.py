"""CVC: loss and learned scale in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.tasks.zsl.cvc import cvc
from tests.tasks.planted import DATA, SEEN, TRUTH, UNIT_A, UNIT_X, batch_of, mean_loss, start, unit

SQRT_A = UNIT_A * np.sqrt(6)


def test_loss_and_its_learned_scale():
    task = cvc(DATA.spec, hidden=7)
    variables = start(task)
    params = variables.params
    w1, b1, w2, b2 = (
        np.asarray(params["encoder"][layer][k][...], np.float64)
        for layer in ("hidden", "visual")
        for k in ("kernel", "bias")
    )
    prototypes = np.maximum(np.maximum(SQRT_A[SEEN] @ w1 + b1, 0) @ w2 + b2, 0)
    assert (np.linalg.norm(prototypes, axis=1) > 0).all()
    logits = 10 * UNIT_X @ unit(prototypes).T
    loss = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), TRUTH])
    assert mean_loss(task, variables) == pytest.approx(loss, rel=1e-3)

    def of_scale(scale):
        return task.loss(variables._replace(params=params | {"scale": scale}), batch_of(task), None, "data")[0]

    assert abs(float(jax.grad(of_scale)(jnp.float32(10.0)))) > 1e-4


def test_bad_settings():
    with pytest.raises(UserError, match="task.scale is -1"):
        cvc(DATA.spec, scale=-1.0)
