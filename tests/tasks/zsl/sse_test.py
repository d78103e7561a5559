"""SSE: mixtures against scipy's optimiser, loss and scores by loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from demjax.checks import UserError
from demjax.tasks.zsl.sse import onto_simplex, simplex_mixtures, sse
from tests.tasks.planted import (
    DATA,
    SEEN,
    TRUTH,
    UNIT_A,
    UNIT_X,
    all_scores,
    batch_of,
    mean_loss,
    on_mesh,
    start,
    unit,
    violations,
)

FIRST = unit(DATA.features[:6])
TABLE = UNIT_A.astype(np.float32)


def on_simplex(objective, n):
    """The minimum over the simplex by SLSQP."""
    limits = {"type": "eq", "fun": lambda p: p.sum() - 1}
    found = minimize(objective, np.full(n, 1 / n), bounds=[(0, 1)] * n, constraints=limits, options={"ftol": 1e-14})
    return found.x


def test_projection_onto_the_simplex():
    for v in np.random.default_rng(0).standard_normal((5, 4)) * 2:
        np.testing.assert_allclose(
            onto_simplex(v[None])[0], on_simplex(lambda p, v=v: ((p - v) ** 2).sum(), 4), atol=1e-5
        )
    np.testing.assert_allclose(onto_simplex(np.array([[5.0, 0, 0]])), [[1, 0, 0]])


@pytest.mark.parametrize("gamma", [0.01, 0.5])
def test_mixtures_solve_their_problem(gamma):
    psi = simplex_mixtures(TABLE, TABLE[SEEN], gamma)
    for c in (0, int(DATA.unseen[0])):
        target = UNIT_A[c]
        best = on_simplex(
            lambda p, t=target: ((t - p @ UNIT_A[SEEN]) ** 2).sum() / 2 + gamma / 2 * (p**2).sum(), len(SEEN)
        )
        np.testing.assert_allclose(psi[c], best, atol=2e-3)


@pytest.mark.parametrize("moved", [False, True])
def test_loss_and_scores(moved):
    task = sse(DATA.spec, gamma=0.1, margin=0.5)
    params = start(task).params
    assert not params["offsets"].any()  # differences from the means
    if moved:
        params = params | {"offsets": 0.1 * jax.random.normal(jax.random.key(7), (len(SEEN), 20))}
    variables = start(task, params=params)
    means = np.array([UNIT_X[row == TRUTH].mean(axis=0) for row in range(len(SEEN))])
    np.testing.assert_allclose(variables.state["class_means"], means, atol=1e-5)
    w, v = np.asarray(params["weights"], np.float64), means + np.asarray(params["offsets"], np.float64)
    psi = simplex_mixtures(TABLE, TABLE[SEEN], 0.1).astype(np.float64)
    pi = np.array([[np.maximum(0, x - of) @ w for of in v] for x in UNIT_X])
    first = np.array([[np.maximum(0, x - of) @ w for of in v] for x in FIRST])
    np.testing.assert_allclose(all_scores(task, variables), first @ psi.T, rtol=1e-3, atol=1e-4)
    wanted = violations(pi @ psi[SEEN].T, TRUTH, 0.5).max(axis=1).mean()
    assert mean_loss(task, variables) == pytest.approx(wanted, rel=1e-4)


def test_offsets_are_learned():
    task = sse(DATA.spec, margin=0.5)
    _, gradient = on_mesh(task, start(task), batch_of(task), jax.random.key(0))
    assert float(jnp.abs(gradient["offsets"]).max()) > 0


@pytest.mark.parametrize(
    ("setting", "told"), [(dict(gamma=-1.0), "task.gamma is -1"), (dict(margin=0.0), "task.margin is 0")]
)
def test_bad_settings(setting, told):
    with pytest.raises(UserError, match=told):
        sse(DATA.spec, **setting)
