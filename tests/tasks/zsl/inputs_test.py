"""Scales of features and of class vectors, against NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.tasks.zsl import inputs
from demjax.tasks.zsl.inputs import class_scaler, dropout, feature_scaler, scaled_vectors, squared_distances
from tests.tasks.planted import DATA, X, unit

PARTS = {"att": 4, "wv": 2}


def test_scales_of_the_features(monkeypatch):
    monkeypatch.setattr(inputs, "BLOCK", 7)  # several blocks
    some = DATA.features[:5].astype(np.float64)
    wanted = {"none": some, "unit": unit(some), "standard": (some - X.mean(axis=0)) / X.std(axis=0)}
    for how, value in wanted.items():
        scaler = feature_scaler(how)
        np.testing.assert_allclose(
            scaler.scale(scaler.statistics(DATA), DATA.features[:5]), value, rtol=1e-4, atol=1e-5
        )
    constant = dataclasses.replace(DATA, features=np.full_like(DATA.features, 3))
    assert (feature_scaler("standard").statistics(constant)["features_deviation"] == 1).all()
    with pytest.raises(UserError, match="task.features_scale is 'uni': did you mean 'unit'"):
        feature_scaler("uni")


@pytest.mark.parametrize("how", ["none", "unit", "sqrt"])
@pytest.mark.parametrize("parts", [{}, PARTS])
def test_scales_of_class_vectors_on_the_host_and_on_devices(how, parts):
    data = dataclasses.replace(DATA, parts=parts)
    host = class_scaler(how, parts)({"semantics": data.semantics})
    np.testing.assert_array_equal(host, data.class_vectors(how))
    compiled = jax.jit(lambda x: scaled_vectors(x, how, parts))(jnp.asarray(data.semantics))
    np.testing.assert_allclose(compiled, host, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="task.semantics_scale is 'sqr': did you mean 'sqrt'"):
        class_scaler("sqr", parts)


def test_dropout_keeps_the_mean():
    x = jnp.full((200, 300), 2.0)
    hidden = np.asarray(dropout(jax.random.key(0), x, 0.25))
    assert set(np.unique(hidden)) == {0.0, np.float32(2 / 0.75)}
    assert (hidden == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert dropout(jax.random.key(0), x, 0.0) is x


def test_squared_distances():
    a, b = np.random.default_rng(0).standard_normal((2, 4, 3))
    np.testing.assert_allclose(squared_distances(a, b), ((a[:, None] - b[None]) ** 2).sum(-1), atol=1e-12)
