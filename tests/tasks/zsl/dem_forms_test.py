"""Fusion, the other direction and the hinge loss of DEM, by the formulas."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.tasks import Variables
from demjax.tasks.zsl.dem import dem
from tests.tasks.planted import DATA, LABELS, SEEN, TRUTH, X, batch_of, embed, mean_loss, start, violations

SECOND = np.random.default_rng(5).standard_normal((12, 4)).astype(np.float32)
TWO = dataclasses.replace(DATA, semantics=np.concatenate([DATA.semantics, SECOND], axis=1), parts={"att": 6, "wv": 4})


def arrays(layer):
    return np.asarray(layer["kernel"][...], np.float64), np.asarray(layer["bias"][...], np.float64)


@pytest.mark.parametrize(("fusion", "weights"), [("paper", ()), ("paper", (2.0, 0.5)), ("released", (3.0, 1.0))])
def test_fusion_by_the_formula(fusion, weights):
    task = dem(TWO.spec, hidden=5, fusion=fusion, source_weights=weights, init="released", semantics_scale="none")
    params = task.init(jax.random.key(0)).params
    parts = []
    for i, y in enumerate((DATA.semantics, SECOND)):
        w, b = arrays(params["branches"][i])
        parts.append(y.astype(np.float64) @ w + b)
    one, two = weights or (1, 1)
    if fusion == "paper":
        h = 1.7159 * np.tanh(2 / 3 * (one * parts[0] + two * parts[1]))
    else:
        h = one * np.tanh(parts[0]) + two * np.tanh(parts[1])
    w, b = arrays(params["visual"])
    np.testing.assert_allclose(
        embed(task, "class", Variables(params), np.arange(12), TWO), np.maximum(h @ w + b, 0), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("form", ["paper", "released"])
def test_every_source_has_its_own_lambda(form):
    """The released fusion: 1e-2 for the attributes, 1e-3 for the words, 1e-2 on top."""
    given = dict(hidden=5, fusion="released", loss_form=form, semantics_scale="none")
    task, without = dem(TWO.spec, l2=0.3, source_l2=(0.7, 0.02), **given), dem(TWO.spec, l2=0.0, **given)
    params = task.init(jax.random.key(0)).params
    params = jax.tree.map(lambda x: x + 0.1, params)  # biases, too
    penalty = 0.0
    for layer, own in zip((*(params["branches"][i] for i in (0, 1)), params["visual"]), (0.7, 0.02, 0.3), strict=True):
        w, b = arrays(layer)
        penalty += own * ((w**2).sum() if form == "paper" else ((w**2).sum() + (b**2).sum()) / 2)
    with_l2, fit = (mean_loss(t, Variables(params), TWO, "examples") for t in (task, without))
    assert with_l2 - fit == pytest.approx(penalty, rel=1e-3)


def test_sources_are_scaled_each_on_its_own():
    scaled = TWO.class_vectors("sqrt")
    np.testing.assert_allclose(np.linalg.norm(scaled[:, :6], axis=1), np.sqrt(6), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(scaled[:, 6:], axis=1), 2, rtol=1e-5)
    assert list(TWO.class_vectors_by_source()) == ["att", "wv"] and TWO.validation_view().parts == TWO.parts
    with pytest.raises(UserError, match="semantics have 10 columns: expected 9"):
        dataclasses.replace(TWO, parts={"att": 6, "wv": 3})


def test_without_a_hidden_layer():
    task = dem(DATA.spec, hidden=0, semantics_scale="none", output="linear")
    params = task.init(jax.random.key(0)).params
    w, b = arrays(params["visual"])
    np.testing.assert_allclose(
        embed(task, "class", Variables(params), np.arange(12)), DATA.semantics @ w + b, rtol=1e-3, atol=1e-5
    )


def network(params, x):
    (w1, b1), (w2, b2) = arrays(params["hidden"]), arrays(params["visual"])
    return np.maximum(np.maximum(x @ w1 + b1, 0) @ w2 + b2, 0), (w1**2).sum() + (w2**2).sum()


def test_to_semantic_by_least_squares():
    task = dem(DATA.spec, hidden=5, direction="visual->semantic", semantics_scale="none", l2=0.01)
    params = task.init(jax.random.key(0)).params
    embedded, norm = network(params, X)
    wanted = ((embedded - DATA.semantics[LABELS]) ** 2).sum(axis=1).mean() + 0.01 * norm
    assert mean_loss(task, Variables(params)) == pytest.approx(wanted, rel=1e-4) and list(task.batchings) == [
        "examples"
    ]
    some = DATA.features[:3]
    np.testing.assert_allclose(
        embed(task, "image", Variables(params), np.arange(3)), network(params, some)[0], rtol=1e-3, atol=1e-5
    )
    np.testing.assert_array_equal(embed(task, "class", Variables(params), [7]), DATA.semantics[[7]])


@pytest.mark.parametrize("to_visual", [True, False])
def test_hinge_both_ways(to_visual):
    direction = "semantic->visual" if to_visual else "visual->semantic"
    task = dem(
        DATA.spec, hidden=5, loss="hinge", margin=0.5, direction=direction, semantics_scale="none", l2=0.01, score="dot"
    )
    params = task.init(jax.random.key(0)).params
    classes = DATA.semantics[SEEN].astype(np.float64)
    embedded, norm = network(params, classes if to_visual else X)
    scores = X @ embedded.T if to_visual else embedded @ classes.T
    wanted = violations(scores, TRUTH, 0.5).sum(axis=1).mean() + 0.01 * norm
    assert mean_loss(task, Variables(params)) == pytest.approx(wanted, rel=1e-4)
    assert list(task.batchings) == ["examples"] and task.sweepable == ("l2", "margin")


def test_numbers_of_the_loss_are_constants():
    """So members of a population can differ in them."""
    task = dem(DATA.spec, hidden=5, l2=0.5)
    variables, batch = start(task), batch_of(task, DATA, None, "examples")
    more, count, _, _ = task.loss(variables, batch | {"l2": jnp.float32(1.5)}, None, "data")
    less, _, _, _ = task.loss(variables, batch, None, "data")
    assert float((more - less) / count) == pytest.approx(network(variables.params, DATA.semantics)[1], rel=1e-3)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: dem(TWO.spec, hidden=0), "fusing several sources of semantics needs a hidden layer"),
        (lambda: dem(TWO.spec, source_weights=(1.0,)), "task.source_weights is .*: expected 2 numbers"),
        (lambda: dem(DATA.spec, fusion="papers"), "did you mean 'paper'"),
        (lambda: dem(TWO.spec, source_l2=(0.1,)), "task.source_l2 is .*: expected 2 numbers"),
        (lambda: dem(TWO.spec, source_l2=(0.1, -1.0)), "task.source_l2 is -1"),
        (lambda: dem(DATA.spec, source_l2=(0.1,)), "for the fusion of several sources"),
        (lambda: dem(DATA.spec, direction="semantic"), "task.direction is 'semantic'"),
        (lambda: dem(DATA.spec, loss="hing"), "did you mean 'hinge'"),
        (lambda: dem(DATA.spec, output="tanh"), "task.output is 'tanh'"),
        (lambda: dem(DATA.spec, margin=0.0), "task.margin is 0"),
    ],
)
def test_bad_settings(build, told):
    with pytest.raises(UserError, match=told):
        build()
