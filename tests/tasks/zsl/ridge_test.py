"""Ridge regression against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from demjax.checks import UserError
from demjax.tasks.zsl.linear import ridge
from tests.tasks.planted import embed
from tests.tasks.zsl.scaled import DATA, LABELS, SEMANTIC, SPEC, VISUAL, X, close, scaled, table


@pytest.mark.parametrize("features_scale", ["none", "unit", "standard"])
@pytest.mark.parametrize("semantics_scale", ["none", "sqrt"])
@pytest.mark.parametrize("l2", [0.1, 30.0])
def test_ridge_equals_scikit_learn(features_scale, semantics_scale, l2):
    scales = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    x, a = scaled(X, features_scale), table(semantics_scale)
    model = Ridge(alpha=l2, fit_intercept=False)
    some = scaled(DATA.features[:7].astype(np.float64), features_scale)

    task = ridge(SPEC, direction=SEMANTIC, l2=l2, **scales)
    variables = task.solve(DATA)
    close(embed(task, "image", variables, np.arange(7)), model.fit(x, a[LABELS]).predict(some))
    close(embed(task, "class", variables, np.array([3, 1])), a[[3, 1]])

    task = ridge(SPEC, direction=VISUAL, l2=l2, **scales)
    variables = task.solve(DATA)
    close(embed(task, "class", variables, np.array([3, 1])), model.fit(a[LABELS], x).predict(a[[3, 1]]))
    close(embed(task, "image", variables, np.arange(7)), some)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (dict(l2=0.0), "task.l2 is 0"),
        (dict(direction="both"), "task.direction is 'both'"),
        (dict(score="dot"), "task.score is 'dot'"),
        (dict(features_scale="units"), "did you mean 'unit'"),
    ],
)
def test_bad_settings(setting, told):
    with pytest.raises(UserError, match=told):
        ridge(SPEC, **setting)
