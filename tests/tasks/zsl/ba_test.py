"""Ba et al.: losses and scores in NumPy."""

import numpy as np
import pytest

from demjax.checks import UserError
from demjax.tasks.zsl.ba import ba
from tests.tasks.planted import DATA, SEEN, TRUTH, UNIT_A, UNIT_X, all_scores, mean_loss, start, unit

SQRT_A = UNIT_A * np.sqrt(6)


def mlp(params, x):
    w1, b1, w2, b2 = (
        np.asarray(params[layer][k][...], np.float64) for layer in ("hidden", "visual") for k in ("kernel", "bias")
    )
    return np.maximum(x @ w1 + b1, 0) @ w2 + b2


@pytest.mark.parametrize("fit", ["hinge", "cross_entropy"])
def test_loss_and_scores(fit):
    task = ba(DATA.spec, hidden=7, width=5, fit=fit, margin=0.7)
    variables = start(task)
    params = variables.params
    scores = mlp(params["image"], UNIT_X) @ mlp(params["class"], SQRT_A[SEEN]).T
    signed = np.where(np.arange(len(SEEN))[None] == TRUTH[:, None], scores, -scores)
    wrong = np.maximum(0, 0.7 - signed) if fit == "hinge" else np.log1p(np.exp(-signed))
    assert mean_loss(task, variables) == pytest.approx(wrong.sum(axis=1).mean(), rel=1e-4)
    every = mlp(params["image"], unit(DATA.features[:6])) @ mlp(params["class"], SQRT_A).T
    np.testing.assert_allclose(all_scores(task, variables), every, rtol=1e-3, atol=1e-4)
    assert task.sweepable == (("margin",) if fit == "hinge" else ())


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (dict(width=0), "task.width is 0"),
        (dict(fit="mse"), "task.fit is 'mse'"),
        (dict(margin=0.0), "task.margin is 0"),
    ],
)
def test_bad_settings(setting, told):
    with pytest.raises(UserError, match=told):
        ba(DATA.spec, **setting)
