"""Bilinear rankers against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.search import Score
from demjax.tasks.zsl import compatibility
from demjax.tasks.zsl.compatibility import ale, devise, latem, sje
from tests.tasks.planted import DATA, SEEN, TRUTH, UNIT_A, UNIT_X, all_scores, embed, mean_loss, start, violations

SPEC = DATA.spec


def by_hand(name, row):
    """The loss of one image from its violations."""
    if name == "sje":
        return row.max()
    rank = int((row > 0).sum())
    weight = sum(1 / i for i in range(1, rank + 1)) / rank if name == "ale" and rank else 1.0
    return weight * row.sum()


@pytest.mark.parametrize("margin", [0.1, 1.0])
@pytest.mark.parametrize("build", [sje, devise, ale, latem])
def test_loss_and_scores_equal_loops(build, margin):
    task = build(SPEC, margin=margin)
    variables = start(task, params={"weights": 2 * start(task).params["weights"]})
    w = np.asarray(variables.params["weights"], np.float64)
    scores = np.max([UNIT_X @ part @ UNIT_A.T for part in w], axis=0)
    wanted = np.mean([by_hand(build.__name__, row) for row in violations(scores[:, SEEN], TRUTH, margin)])
    assert mean_loss(task, variables) == pytest.approx(wanted, rel=1e-4)
    assert task.score == Score("dot", vectors=len(w)) and task.sweepable == ("margin",)


def test_rank_functions_by_hand():
    v = jnp.array([[0.0, 3.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    assert compatibility.hardest(v).tolist() == [3, 0]
    assert compatibility.every(v).tolist() == [6, 0]
    np.testing.assert_allclose(compatibility.by_rank(v), [6 * (1 + 1 / 2 + 1 / 3) / 3, 0], rtol=1e-6)
    gradient = jax.grad(lambda v: compatibility.by_rank(v).sum())(v)
    np.testing.assert_allclose(gradient[0], (11 / 6) / 3, rtol=1e-6)  # the rank is a constant


def test_several_components_are_several_vectors_per_image():
    task = latem(SPEC, components=3)
    assert embed(task, "image", start(task), np.arange(6)).shape == (6, 3, 6) and task.score.vectors == 3
    one = latem(SPEC, components=1)
    assert all_scores(one, start(one)).shape == (6, 12) and one.score.vectors == 1


@pytest.mark.parametrize("setting", [dict(margin=0.0), dict(features_scale="uni"), dict(semantics_scale="uni")])
def test_bad_settings(setting):
    for build in (sje, devise, ale, latem):
        with pytest.raises(UserError):
            build(SPEC, **setting)
    with pytest.raises(UserError, match="task.components is 0"):
        latem(SPEC, components=0)
