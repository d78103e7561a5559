"""ConSE against probabilities written out image by image."""

import numpy as np
import pytest

from demjax.checks import UserError
from demjax.tasks.zsl.conse import conse
from tests.tasks.planted import DATA, SEEN, UNIT_A, embed, start, unit
from tests.tasks.zsl.seen_softmax_test import logits, random_params, softmax

FIRST = unit(DATA.features[:6])


def test_conse_by_loops():
    task, params = conse(DATA.spec, classes=3), random_params(len(SEEN))
    variables = start(task, params=params)
    wanted = []
    for row in softmax(logits(params, FIRST)):
        top = np.argsort(-row)[:3]
        wanted.append(sum(row[s] * UNIT_A[SEEN[s]] for s in top) / row[top].sum())
    np.testing.assert_allclose(embed(task, "image", variables, np.arange(6)), wanted, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(embed(task, "class", variables, np.arange(12)), UNIT_A, rtol=1e-5)
    assert embed(conse(DATA.spec, classes=500), "image", variables, [0, 1]).shape == (2, 6)


def test_bad_settings():
    with pytest.raises(UserError, match="task.classes is 0"):
        conse(DATA.spec, classes=0)
