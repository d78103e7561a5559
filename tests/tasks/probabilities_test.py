"""ConSE, IAP and DAP against probabilities written out image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.tasks.probabilities import LEAST, binary_attributes, conse, dap, iap
from tests.tasks.planted import DATA, SEEN, TRUTH, UNIT_A, UNIT_X, all_scores, mean_loss, unit

rng = np.random.default_rng(0)


def some_params(n_out):
    return {
        "weights": jnp.asarray(3 * rng.standard_normal((20, n_out)), jnp.float32),
        "bias": jnp.asarray(rng.standard_normal(n_out), jnp.float32),
    }


def logits(params, x):
    return x @ np.asarray(params["weights"], np.float64) + np.asarray(params["bias"], np.float64)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


FIRST = unit(DATA.features[:6].astype(np.float64))
BINARY = DATA.semantics > DATA.semantics[SEEN].mean(axis=0)
PRIOR = np.clip(BINARY[SEEN].mean(axis=0), LEAST, 1 - LEAST)


def log_posterior(p):
    """log p(c | x) up to a constant, [q, c], from p(a_m | x)."""
    p = np.clip(p, LEAST, 1 - LEAST)
    return np.array(
        [
            [sum(np.log((q[m] / PRIOR[m]) if b[m] else (1 - q[m]) / (1 - PRIOR[m])) for m in range(6)) for b in BINARY]
            for q in p
        ]
    )


def test_conse_by_loops():
    params = some_params(len(SEEN))
    task = conse(DATA, classes=3)
    p = softmax(logits(params, FIRST))
    wanted = []
    for row in p:
        top = np.argsort(-row)[:3]
        wanted.append(sum(row[s] * UNIT_A[SEEN[s]] for s in top) / row[top].sum())
    np.testing.assert_allclose(task.queries(params, jnp.asarray(DATA.features[:6])), wanted, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(task.gallery(params, DATA, np.arange(12)), UNIT_A, rtol=1e-5)
    assert conse(DATA, classes=500).queries(params, jnp.asarray(DATA.features[:2])).shape == (2, 6)


def test_class_loss_is_the_cross_entropy():
    params = some_params(len(SEEN))
    p = softmax(logits(params, UNIT_X))
    wanted = -np.mean(np.log(p[np.arange(len(p)), TRUTH]))
    for build in (conse, iap):
        assert mean_loss(build(DATA), params) == pytest.approx(wanted, rel=1e-4)


def test_iap_goes_through_the_seen_classes():
    params = some_params(len(SEEN))
    found = all_scores(iap(DATA), params)
    np.testing.assert_allclose(
        found, log_posterior(softmax(logits(params, FIRST)) @ BINARY[SEEN]), rtol=1e-3, atol=1e-3
    )


def test_dap_and_its_loss():
    params = some_params(6)
    p = 1 / (1 + np.exp(-logits(params, FIRST)))
    np.testing.assert_allclose(all_scores(dap(DATA), params), log_posterior(p), rtol=1e-3, atol=1e-3)
    p = 1 / (1 + np.exp(-logits(params, UNIT_X)))
    right = np.where(BINARY[SEEN[TRUTH]], p, 1 - p)
    assert mean_loss(dap(DATA), params) == pytest.approx(-np.log(right).sum(axis=1).mean(), rel=1e-4)


def test_binary_attributes_look_at_seen_classes_only():
    np.testing.assert_array_equal(binary_attributes(DATA), BINARY)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: conse(DATA, classes=0), "task.classes is 0"),
        (lambda: dap(DATA, features_scale="x"), "task.features_scale is 'x'"),
        (lambda: iap(DATA, features_scale="x"), "task.features_scale is 'x'"),
    ],
)
def test_bad_settings(build, told):
    with pytest.raises(UserError, match=told):
        build()


def test_they_start_undecided():
    for build, n in ((conse, 9), (iap, 9), (dap, 6)):
        params = build(DATA).init(jax.random.key(0))
        assert params["weights"].shape == (20, n) and not params["weights"].any()
