"""SynC: mixtures, loss and scores by loops."""

import jax.numpy as jnp
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.tasks.zsl.sync import similarities, sync
from tests.tasks.planted import DATA, SEEN, TRUTH, UNIT_A, UNIT_X, all_scores, mean_loss, start, unit

FIRST = unit(DATA.features[:6])


def test_loss_and_scores():
    task = sync(DATA.spec, gamma=2.0, l2=0.3)
    w = np.random.default_rng(1).standard_normal((len(SEEN), 20))
    variables = start(task, params={"classifiers": jnp.asarray(w, jnp.float32)})
    s = np.array([[np.exp(-2 * ((a - b) ** 2).sum()) for b in UNIT_A[SEEN]] for a in UNIT_A])
    s /= s.sum(axis=1, keepdims=True)
    table = UNIT_A.astype(np.float32)
    np.testing.assert_allclose(similarities(table, table[SEEN], 2.0), s, rtol=1e-4)
    bases = np.linalg.solve(s[SEEN], w)  # S of the seen classes is square and has an inverse here
    np.testing.assert_allclose(all_scores(task, variables), FIRST @ (s @ bases).T, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(all_scores(task, variables)[:, SEEN], FIRST @ w.T, rtol=1e-3, atol=1e-3)
    scores = UNIT_X @ w.T
    sign = np.where(np.arange(len(SEEN))[None] == TRUTH[:, None], 1, -1)
    penalty = 0.15 * (w**2).sum()
    wanted = (np.maximum(0, 1 - sign * scores) ** 2).mean() + penalty
    assert mean_loss(task, variables) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("setting", "told"), [(dict(gamma=0.0), "task.gamma is 0"), (dict(l2=-1.0), "task.l2 is -1")])
def test_bad_settings(setting, told):
    with pytest.raises(UserError, match=told):
        sync(DATA.spec, **setting)
