"""CMT, Ba et al. and CVC: losses and scores in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.data.batches import examples
from demjax.tasks.networks import ba, cmt, cvc
from tests.tasks.planted import DATA, LABELS, SEEN, TRUTH, UNIT_A, UNIT_X, all_scores, mean_loss, unit

SQRT_A = UNIT_A * np.sqrt(6)


def mlp(params, x, last=lambda z: z):
    w1, b1, w2, b2 = (
        np.asarray(params[layer][k][...], np.float64) for layer in ("hidden", "visual") for k in ("kernel", "bias")
    )
    return last(np.maximum(x @ w1 + b1, 0) @ w2 + b2)


def test_cmt():
    task = cmt(DATA, hidden=7)
    params = task.init(jax.random.key(0))
    first, second = (np.asarray(params[k], np.float64) for k in ("layer0", "layer1"))
    embedded = np.tanh(UNIT_X @ first) @ second
    assert mean_loss(task, params) == pytest.approx(((UNIT_A[LABELS] - embedded) ** 2).sum(axis=1).mean(), rel=1e-4)
    np.testing.assert_allclose(task.gallery(params, DATA, np.array([4])), UNIT_A[[4]], rtol=1e-5)
    assert task.score == "euclidean" and first.shape == (20, 7)


@pytest.mark.parametrize("fit", ["hinge", "cross_entropy"])
def test_ba(fit):
    task = ba(DATA, hidden=7, width=5, fit=fit, margin=0.7)
    params = task.init(jax.random.key(0))
    scores = mlp(params["image"], UNIT_X) @ mlp(params["class"], SQRT_A[SEEN]).T
    signed = np.where(np.arange(len(SEEN))[None] == TRUTH[:, None], scores, -scores)
    wrong = np.maximum(0, 0.7 - signed) if fit == "hinge" else np.log1p(np.exp(-signed))
    assert mean_loss(task, params) == pytest.approx(wrong.sum(axis=1).mean(), rel=1e-4)
    every = mlp(params["image"], unit(DATA.features[:6].astype(np.float64))) @ mlp(params["class"], SQRT_A).T
    np.testing.assert_allclose(all_scores(task, params), every, rtol=1e-3, atol=1e-4)


def test_cvc_and_its_learned_scale():
    task = cvc(DATA, hidden=7)
    params = task.init(jax.random.key(0))
    prototypes = mlp(params["encoder"], SQRT_A[SEEN], lambda z: np.maximum(z, 0))
    assert (np.linalg.norm(prototypes, axis=1) > 0).all()
    logits = 10 * UNIT_X @ unit(prototypes).T
    loss = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), TRUTH])
    assert mean_loss(task, params) == pytest.approx(loss, rel=1e-3)

    def of_scale(scale):
        batch = {k: jnp.asarray(v) for k, v in (examples(DATA).columns | dict(task.tables)).items()}
        return task.loss(params | {"scale": scale}, batch, None, "data")[0]

    assert abs(float(jax.grad(of_scale)(jnp.float32(10.0)))) > 1e-4


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: cmt(DATA, hidden=0), "task.hidden is 0"),
        (lambda: ba(DATA, width=0), "task.width is 0"),
        (lambda: ba(DATA, fit="mse"), "task.fit is 'mse'"),
        (lambda: cvc(DATA, scale=-1.0), "task.scale is -1"),
    ],
)
def test_bad_settings(build, told):
    with pytest.raises(UserError, match=told):
        build()
