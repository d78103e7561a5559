"""SynC and SSE: mixtures against scipy's optimiser, losses and scores by loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from demjax.checks import UserError
from demjax.tasks.synthesis import onto_simplex, similarities, simplex_mixtures, sse, sync
from tests.tasks.planted import DATA, SEEN, TRUTH, UNIT_A, UNIT_X, all_scores, mean_loss, unit, violations

FIRST = unit(DATA.features[:6].astype(np.float64))


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
    table = UNIT_A.astype(np.float32)
    found = simplex_mixtures(table, SEEN, gamma)
    for c in (0, int(DATA.unseen[0])):
        target = UNIT_A[c]
        best = on_simplex(
            lambda p, t=target: ((t - p @ UNIT_A[SEEN]) ** 2).sum() / 2 + gamma / 2 * (p**2).sum(), len(SEEN)
        )
        np.testing.assert_allclose(found[c], best, atol=2e-3)


def test_sync():
    task = sync(DATA, gamma=2.0, l2=0.3)
    w = np.random.default_rng(1).standard_normal((len(SEEN), 20))
    params = {"classifiers": jnp.asarray(w, jnp.float32)}
    s = np.array([[np.exp(-2 * ((a - b) ** 2).sum()) for b in UNIT_A[SEEN]] for a in UNIT_A])
    s /= s.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(similarities(UNIT_A.astype(np.float32), SEEN, 2.0), s, rtol=1e-4)
    bases = np.linalg.solve(s[SEEN], w)  # S of the seen classes is square and has an inverse here
    np.testing.assert_allclose(all_scores(task, params), FIRST @ (s @ bases).T, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(all_scores(task, params)[:, SEEN], FIRST @ w.T, rtol=1e-3, atol=1e-3)
    scores = UNIT_X @ w.T
    sign = np.where(np.arange(len(SEEN))[None] == TRUTH[:, None], 1, -1)
    penalty = 0.15 * (w**2).sum()
    wanted = (np.maximum(0, 1 - sign * scores) ** 2).mean() + penalty
    assert mean_loss(task, params) == pytest.approx(wanted, rel=1e-4)


def test_sse():
    task = sse(DATA, gamma=0.1, margin=0.5)
    params = task.init(jax.random.key(0))
    w, v = np.asarray(params["weights"], np.float64), np.asarray(params["offsets"], np.float64)
    for row, c in enumerate(SEEN):
        np.testing.assert_allclose(v[row], UNIT_X[TRUTH == row].mean(axis=0), atol=1e-5), c
    psi = simplex_mixtures(UNIT_A.astype(np.float32), SEEN, 0.1).astype(np.float64)
    pi = np.array([[np.maximum(0, x - of) @ w for of in v] for x in UNIT_X])
    first = np.array([[np.maximum(0, x - of) @ w for of in v] for x in FIRST])
    np.testing.assert_allclose(all_scores(task, params), first @ psi.T, rtol=1e-3, atol=1e-4)
    wanted = violations(pi @ psi[SEEN].T, TRUTH, 0.5).max(axis=1).mean()
    assert mean_loss(task, params) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: sync(DATA, gamma=0.0), "task.gamma is 0"),
        (lambda: sync(DATA, l2=-1.0), "task.l2 is -1"),
        (lambda: sse(DATA, gamma=-1.0), "task.gamma is -1"),
        (lambda: sse(DATA, margin=0.0), "task.margin is 0"),
    ],
)
def test_bad_settings(build, told):
    with pytest.raises(UserError, match=told):
        build()
