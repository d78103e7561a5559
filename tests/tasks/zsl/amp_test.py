"""AMP: the absorption against a long walk."""

import numpy as np
import pytest

from demjax.checks import UserError
from demjax.protocols import ZSL
from demjax.tasks.zsl.amp import _absorption, amp
from tests.tasks.planted import DATA, embed


def test_amp_is_the_end_of_a_long_walk():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((9, 3))
    weights = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1))
    seen, unseen = np.array([0, 2, 3, 5, 6, 8]), np.array([1, 4, 7])
    steps = np.zeros((9, 9))
    for s in seen:
        near = [j for j in np.argsort(-weights[s]) if j != s][:3]
        for j in {*near, unseen[np.argmax(weights[s, unseen])]}:
            steps[s, j] = weights[s, j]
        steps[s] /= steps[s].sum()
    steps[unseen, unseen] = 1
    walked = np.linalg.matrix_power(steps, 4096)
    absorbed = _absorption(weights[seen], 3, seen, unseen, 9)
    np.testing.assert_allclose(absorbed[np.ix_(unseen, seen)], walked[np.ix_(seen, unseen)].T, atol=1e-6)
    np.testing.assert_allclose(absorbed[unseen].sum(axis=0), 1, atol=1e-6)

    task = amp(DATA.spec, neighbours=3, bandwidth=0.5)
    variables = task.solve(DATA)
    first = embed(task, "image", variables, np.arange(4))
    assert ((first > 0).sum(axis=1) == 3).all() and task.protocols == (ZSL,)
    np.testing.assert_allclose(first.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(embed(task, "class", variables, DATA.unseen).sum(axis=0), 1, atol=1e-6)
    assert not embed(task, "class", variables, DATA.seen).any()
    with pytest.raises(UserError, match="task.neighbours is 12"):
        amp(DATA.spec, neighbours=12)
