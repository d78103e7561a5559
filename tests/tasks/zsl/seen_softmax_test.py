"""Softmax regression over the seen classes: its loss in NumPy, and its start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demjax.tasks.zsl.conse import conse
from demjax.tasks.zsl.dap_iap import dap, iap
from tests.tasks.planted import DATA, SEEN, TRUTH, UNIT_X, mean_loss, start


def random_params(n_out):
    rng = np.random.default_rng(n_out)
    return {
        "weights": jnp.asarray(3 * rng.standard_normal((20, n_out)), jnp.float32),
        "bias": jnp.asarray(rng.standard_normal(n_out), jnp.float32),
    }


def logits(params, x):
    return x @ np.asarray(params["weights"], np.float64) + np.asarray(params["bias"], np.float64)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_class_loss_is_the_cross_entropy():
    params = random_params(len(SEEN))
    p = softmax(logits(params, UNIT_X))
    wanted = -np.mean(np.log(p[np.arange(len(p)), TRUTH]))
    for build in (conse, iap):
        task = build(DATA.spec)
        assert mean_loss(task, start(task, params=params)) == pytest.approx(wanted, rel=1e-4)


def test_they_start_undecided():
    for build, n in ((conse, 9), (iap, 9), (dap, 6)):
        params = build(DATA.spec).init(jax.random.key(0)).params
        assert params["weights"].shape == (20, n) and not params["weights"].any()
