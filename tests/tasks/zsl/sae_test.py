"""SAE against SciPy's Sylvester solver and one linear system."""

import dataclasses

import numpy as np
import pytest
from scipy.linalg import solve_sylvester

from demjax.checks import UserError
from demjax.tasks.zsl.linear import sae
from tests.tasks.planted import embed
from tests.tasks.zsl.scaled import DATA, LABELS, SEMANTIC, SPEC, VISUAL, X, close, scaled, table


@pytest.mark.parametrize("l2", [0.05, 2.0])
def test_sae_solves_the_sylvester_equation(l2):
    x, s = scaled(X, "unit").T, table("none")[LABELS].T  # columns are samples
    w = solve_sylvester(s @ s.T, l2 * x @ x.T, (1 + l2) * s @ x.T)
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    some = scaled(DATA.features[:5].astype(np.float64), "unit")
    for direction, queries, gallery in ((SEMANTIC, some @ w.T, table("none")), (VISUAL, some, table("none") @ w)):
        task = sae(SPEC, direction=direction, l2=l2)
        variables = task.solve(DATA)
        close(embed(task, "image", variables, np.arange(5)), queries)
        close(embed(task, "class", variables, np.arange(12)), gallery)
        assert task.score.kind == "cosine" and task.summary == direction


@pytest.mark.parametrize("l2", [1e-3, 0.2, 10.0])
def test_sae_with_more_columns_than_images_and_than_classes(l2):
    """Both products have eigenvalues 0 there, as on CUB; the part of W that nothing decides is 0."""
    rng = np.random.default_rng(0)
    rank = rng.standard_normal((len(DATA.labels), 4)) @ rng.standard_normal((4, 20))
    thin = dataclasses.replace(
        DATA,
        features=rank.astype(np.float32),
        semantics=(DATA.semantics[:, :3] @ rng.standard_normal((3, 9))).astype(np.float32),
    )
    x, a = rank[DATA.splits["trainval"]].T, thin.semantics.astype(np.float64)[LABELS].T
    # a a' W + W l x x' = (1 + l) a x' as one linear system of the entries of W, row by row; lstsq takes the least norm
    system = np.kron(a @ a.T, np.eye(20)) + l2 * np.kron(np.eye(9), x @ x.T)
    w = np.linalg.lstsq(system, (1 + l2) * (a @ x.T).ravel(), rcond=1e-10)[0].reshape(9, 20)
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    close(sae(thin.spec, direction=VISUAL, l2=l2, features_scale="none").solve(thin).params["weights"], w)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (dict(l2=-1.0), "task.l2 is -1"),
        (dict(semantics_scale="sqr"), "did you mean 'sqrt'"),
    ],
)
def test_bad_settings(setting, told):
    with pytest.raises(UserError, match=told):
        sae(SPEC, **setting)
