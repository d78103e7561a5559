"""IAP and DAP against probabilities written out image by image."""

import numpy as np
import pytest

from demjax.checks import UserError
from demjax.tasks.zsl.dap_iap import LEAST, dap, iap
from tests.tasks.planted import DATA, SEEN, TRUTH, UNIT_X, all_scores, mean_loss, start, unit
from tests.tasks.zsl.seen_softmax_test import logits, random_params, softmax

FIRST = unit(DATA.features[:6])
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


def test_iap_goes_through_the_seen_classes():
    task, params = iap(DATA.spec), random_params(len(SEEN))
    wanted = log_posterior(softmax(logits(params, FIRST)) @ BINARY[SEEN])
    np.testing.assert_allclose(all_scores(task, start(task, params=params)), wanted, rtol=1e-3, atol=1e-3)


def test_dap_and_its_loss():
    task, params = dap(DATA.spec), random_params(6)
    variables = start(task, params=params)
    p = 1 / (1 + np.exp(-logits(params, FIRST)))
    np.testing.assert_allclose(all_scores(task, variables), log_posterior(p), rtol=1e-3, atol=1e-3)
    p = 1 / (1 + np.exp(-logits(params, UNIT_X)))
    right = np.where(BINARY[SEEN[TRUTH]], p, 1 - p)
    assert mean_loss(task, variables) == pytest.approx(-np.log(right).sum(axis=1).mean(), rel=1e-4)


def test_binary_attributes_look_at_seen_classes_only():
    np.testing.assert_array_equal(dap(DATA.spec).constants(DATA)["binary"], BINARY)
    np.testing.assert_array_equal(iap(DATA.spec).statistics(DATA)["seen_has"], BINARY[SEEN])


@pytest.mark.parametrize("build", [dap, iap])
def test_bad_settings(build):
    with pytest.raises(UserError, match="task.features_scale is 'x'"):
        build(DATA.spec, features_scale="x")
