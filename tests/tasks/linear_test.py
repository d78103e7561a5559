"""Closed forms against scikit-learn, SciPy and the equations written out with inverses."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_sylvester
from sklearn.linear_model import Ridge

from demjax.checks import UserError
from demjax.data.sources import planted as synthetic
from demjax.tasks import linear
from demjax.tasks.linear import eszsl, ridge, sae

DATA = synthetic.plant(n_classes=12, n_unseen=3, n_attributes=6, n_features=20, images_per_class=13)
IDS = DATA.splits["trainval"]
X, LABELS = DATA.features[IDS].astype(np.float64), DATA.labels[IDS]
VISUAL, SEMANTIC = linear.DIRECTIONS


def scaled(x, how):
    if how == "unit":
        return x / np.linalg.norm(x, axis=1, keepdims=True)
    return (x - X.mean(axis=0)) / X.std(axis=0) if how == "standard" else x


def table(how):
    a = DATA.semantics.astype(np.float64)
    norm = np.linalg.norm(a, axis=1, keepdims=True)
    return {"none": a, "unit": a / norm, "sqrt": a / norm * np.sqrt(6)}[how]


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-4 * np.abs(want).max())


@pytest.mark.parametrize("features_scale", ["none", "unit", "standard"])
@pytest.mark.parametrize("semantics_scale", ["none", "sqrt"])
@pytest.mark.parametrize("l2", [0.1, 30.0])
def test_ridge_equals_scikit_learn(features_scale, semantics_scale, l2):
    scales = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    x, a = scaled(X, features_scale), table(semantics_scale)
    model = Ridge(alpha=l2, fit_intercept=False)
    some = scaled(DATA.features[:7].astype(np.float64), features_scale)

    task = ridge(DATA, direction=SEMANTIC, l2=l2, **scales)
    params = task.solve()
    close(task.queries(params, DATA.features[:7]), model.fit(x, a[LABELS]).predict(some))
    close(task.gallery(params, DATA, np.array([3, 1])), a[[3, 1]])

    task = ridge(DATA, direction=VISUAL, l2=l2, **scales)
    params = task.solve()
    close(task.gallery(params, DATA, np.array([3, 1])), model.fit(a[LABELS], x).predict(a[[3, 1]]))
    close(task.queries(params, DATA.features[:7]), some)


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
    task = eszsl(DATA, alpha=alpha, gamma=gamma, features_scale=features_scale, semantics_scale="unit")
    params = task.solve()
    every = task.queries(params, DATA.features[:5]) @ task.gallery(params, DATA, np.arange(12)).T
    close(every, scaled(DATA.features[:5].astype(np.float64), features_scale) @ w @ table("unit").T)
    assert task.score == "dot"


@pytest.mark.parametrize("l2", [0.05, 2.0])
def test_sae_solves_the_sylvester_equation(l2):
    x, s = scaled(X, "unit").T, table("none")[LABELS].T  # columns are samples
    w = solve_sylvester(s @ s.T, l2 * x @ x.T, (1 + l2) * s @ x.T)
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    some = scaled(DATA.features[:5].astype(np.float64), "unit")
    for direction, queries, gallery in ((SEMANTIC, some @ w.T, table("none")), (VISUAL, some, table("none") @ w)):
        task = sae(DATA, direction=direction, l2=l2)
        params = task.solve()
        close(task.queries(params, DATA.features[:5]), queries)
        close(task.gallery(params, DATA, np.arange(12)), gallery)
        assert task.score == "cosine" and task.direction == direction


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
    close(sae(thin, direction=VISUAL, l2=l2, features_scale="none").solve()["weights"], w)


def test_one_spectrum_for_a_sweep_and_another_for_other_data(monkeypatch):
    monkeypatch.setattr(linear, "_spectra", {})
    decomposed = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda m: decomposed.append(len(m)) or eigh(m))
    for l2 in (0.1, 1.0, 10.0):
        ridge(DATA, direction=SEMANTIC, l2=l2).solve()
        eszsl(DATA, alpha=l2).solve()
    assert decomposed.count(20) == 1
    ridge(DATA, direction=SEMANTIC, features_scale="unit").solve()
    view = DATA.validation_view()
    first = ridge(view, direction=SEMANTIC).solve()["weights"]
    assert decomposed.count(20) == 3
    x, a = view.features[view.splits["trainval"]].astype(np.float64), view.semantics.astype(np.float64)
    model = Ridge(alpha=1.0, fit_intercept=False).fit(x, a[view.labels[view.splits["trainval"]]])
    close(first, model.coef_.T)


def test_blocks_of_images_add_up(monkeypatch):
    whole = linear._spectrum(DATA, "none")
    monkeypatch.setattr(linear, "BLOCK", 7)
    for a, b in zip(linear._spectrum(DATA, "none"), whole, strict=True):
        np.testing.assert_allclose(np.abs(a), np.abs(b), atol=1e-8)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: ridge(DATA, l2=0.0), "task.l2 is 0"),
        (lambda: ridge(DATA, direction="both"), "task.direction is 'both'"),
        (lambda: ridge(DATA, score="dot"), "task.score is 'dot'"),
        (lambda: ridge(DATA, features_scale="units"), "did you mean 'unit'"),
        (lambda: eszsl(DATA, alpha=30), "task.alpha is 30"),
        (lambda: eszsl(DATA, gamma=float("nan")), "task.gamma is nan"),
        (lambda: sae(DATA, l2=-1.0), "task.l2 is -1"),
        (lambda: sae(DATA, semantics_scale="sqr"), "did you mean 'sqrt'"),
    ],
)
def test_bad_settings(build, told):
    with pytest.raises(UserError, match=told):
        build()


def test_amp_is_the_end_of_a_long_walk():
    from demjax.tasks.amp import _absorption, amp

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

    task = amp(DATA, neighbours=3, bandwidth=0.5)
    params = task.solve()
    first = np.asarray(task.queries(params, jnp.asarray(DATA.features[:4])))
    assert ((first > 0).sum(axis=1) == 3).all() and task.protocols == ("zsl",)
    np.testing.assert_allclose(first.sum(axis=1), 1, rtol=1e-5)
    with pytest.raises(UserError, match="task.neighbours is 12"):
        amp(DATA, neighbours=12)
