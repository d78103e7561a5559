"""ESZSL against the equation written out with inverses."""

import numpy as np
import pytest

from demjax.checks import UserError
from demjax.tasks.zsl.linear import eszsl
from tests.tasks.planted import embed
from tests.tasks.zsl.scaled import DATA, LABELS, SPEC, X, close, scaled, table


@pytest.mark.parametrize(("alpha", "gamma"), [(-1, 0.5), (3, 0), (1, -2)])
@pytest.mark.parametrize("features_scale", ["none", "unit"])
def test_eszsl_equals_the_equation(alpha, gamma, features_scale):
    x, a = scaled(X, features_scale), table("unit")[DATA.seen]
    y = (LABELS[:, None] == DATA.seen[None]).astype(float)
    w = (
        np.linalg.inv(x.T @ x + 10.0**alpha * np.eye(20))
        @ x.T
        @ y
        @ a
        @ np.linalg.inv(a.T @ a + 10.0**gamma * np.eye(6))
    )
    task = eszsl(SPEC, alpha=alpha, gamma=gamma, features_scale=features_scale, semantics_scale="unit")
    variables = task.solve(DATA)
    every = embed(task, "image", variables, np.arange(5)) @ embed(task, "class", variables, np.arange(12)).T
    close(every, scaled(DATA.features[:5].astype(np.float64), features_scale) @ w @ table("unit").T)
    assert task.score.kind == "dot"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (dict(alpha=30), "task.alpha is 30"),
        (dict(gamma=float("nan")), "task.gamma is nan"),
    ],
)
def test_bad_settings(setting, told):
    with pytest.raises(UserError, match=told):
        eszsl(SPEC, **setting)
