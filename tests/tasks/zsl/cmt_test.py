"""CMT: loss and scores in NumPy."""

import numpy as np
import pytest

from demjax.checks import UserError
from demjax.tasks.zsl.cmt import cmt
from tests.tasks.planted import DATA, LABELS, UNIT_A, UNIT_X, embed, mean_loss, start, unit


def test_loss_and_both_sides():
    task = cmt(DATA.spec, hidden=7)
    variables = start(task)
    first, second = (np.asarray(variables.params[k], np.float64) for k in ("layer0", "layer1"))
    embedded = np.tanh(UNIT_X @ first) @ second
    assert mean_loss(task, variables) == pytest.approx(((UNIT_A[LABELS] - embedded) ** 2).sum(axis=1).mean(), rel=1e-4)
    np.testing.assert_allclose(embed(task, "class", variables, [4]), UNIT_A[[4]], rtol=1e-5)
    some = np.tanh(unit(DATA.features[:3]) @ first) @ second
    np.testing.assert_allclose(embed(task, "image", variables, np.arange(3)), some, rtol=1e-3, atol=1e-5)
    assert task.score.kind == "euclidean" and first.shape == (20, 7)


def test_bad_settings():
    with pytest.raises(UserError, match="task.hidden is 0"):
        cmt(DATA.spec, hidden=0)
