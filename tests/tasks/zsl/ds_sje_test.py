"""DS-SJE and DA-SJE: loss and gradient by loops, captions drawn, any number of devices, both sides."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from demjax.checks import UserError
from demjax.data import load
from demjax.data.batches import classes
from demjax.data.text.captions import OF_CLASS, Caption, arrange
from demjax.tasks.zsl.ds_sje import ds_sje
from tests.tasks.planted import batch_of, embed, on_mesh, rows_of, start, train

SMALL = dict(n_classes=12, n_unseen=3, n_attributes=16, n_features=10, images_per_class=8)
TINY = dict(encoder="word_cnn_rnn", width=0.03)


@pytest.fixture(scope="module")
def dataset():
    return load("planted", planted=SMALL, descriptions="generated")


def one_of_each_class(dataset, seed=0, n=9):
    """Rows of a batch: one image of each of n seen classes."""
    rng, group = np.random.default_rng(seed), classes(dataset).group
    return np.array([rng.choice(np.flatnonzero(group == c)) for c in rng.permutation(len(dataset.seen))[:n]])


def drawn(task, dataset, rows, key):
    """The caption of each row, redrawn as the task says it draws."""
    constants, captions = task.constants(dataset), []
    for row in rows:
        u = float(jax.random.uniform(jax.random.split(jax.random.fold_in(key, row))[0]))
        count = int(constants["count"][row])
        captions.append(int(constants["first"][row]) + min(int(u * count), count - 1))
    return captions


def by_loops(v, t, margin, symmetric):
    """Loss, and its gradient by t, with explicit loops over pairs in float64."""
    n, total, grad = len(v), 0.0, np.zeros_like(t)
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            over = margin + v[i] @ t[j] - v[i] @ t[i]  # image i against text j
            if over > 0:
                total += over
                grad[j] += v[i]
                grad[i] -= v[i]
            over = margin + v[j] @ t[i] - v[i] @ t[i]  # text i against image j
            if symmetric and over > 0:
                total += over
                grad[i] += v[j] - v[i]
    return total / n**2, grad / n**2


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("devices", [1, 3, 8])
def test_loss_and_gradient_equal_loops_on_any_number_of_devices(dataset, symmetric, devices):
    """9 classes on 3 devices; on 8 the batch is padded to 16, and the empty rows count for nothing."""
    task = ds_sje(dataset.spec, encoder="attributes", symmetric=symmetric, margin=0.7)
    variables = start(task, dataset, 1)
    variables = variables._replace(params=jax.tree.map(lambda p: 3 * p, variables.params))
    rows, key, n = one_of_each_class(dataset), jax.random.key(5), classes(dataset).n_rows
    padded = rows if devices != 8 else np.append(rows, [n] * 7)
    losses, grads = on_mesh(task, variables, batch_of(task, dataset, padded), key, jax.devices()[:devices])
    v = rows_of(task, dataset)["features"][rows].astype(np.float64)
    a = task.constants(dataset)["inputs"][drawn(task, dataset, rows, key)].astype(np.float64)
    kernel, bias = (np.asarray(variables.params["visual"][k][...], np.float64) for k in ("kernel", "bias"))
    loss, by_text = by_loops(v, a @ kernel + bias, 0.7, symmetric)
    assert 0 < loss == pytest.approx(float(losses["loss"]), rel=1e-5)
    close = dict(rtol=1e-3, atol=1e-5 * np.abs(by_text).max())
    np.testing.assert_allclose(grads["visual"]["kernel"][...], a.T @ by_text, **close)
    np.testing.assert_allclose(grads["visual"]["bias"][...], by_text.sum(axis=0), **close)
    right = np.argmax(v @ (a @ kernel + bias).T, axis=1) == np.arange(9)
    assert float(losses["batch_top1"]) == pytest.approx(right.mean(), abs=1e-6)


def test_negatives_of_this_device_only_are_another_loss(dataset, monkeypatch):
    """The mutant that must fail: on 3 devices it sees 3 x 6 of the 72 pairs."""
    task = ds_sje(dataset.spec, encoder="attributes")
    variables, key = start(task, dataset, 1), jax.random.key(5)
    batch = batch_of(task, dataset, one_of_each_class(dataset))
    right = [float(on_mesh(task, variables, batch, key, jax.devices()[:n])[0]["loss"]) for n in (1, 3)]
    assert right[0] == pytest.approx(right[1], rel=1e-6)
    monkeypatch.setattr(jax.lax, "all_gather", lambda x, axis, tiled: x)
    monkeypatch.setattr(jax.lax, "axis_index", lambda axis: jnp.int32(0))
    assert float(on_mesh(task, variables, batch, key, jax.devices()[:3])[0]["loss"]) < 0.9 * right[0]


def test_training_is_the_same_on_one_three_and_eight_devices(dataset):
    task, n_rows = ds_sje(dataset.spec, encoder="attributes", dropout=0.1), classes(dataset).n_rows
    batches = [one_of_each_class(dataset, seed, 6) for seed in range(9)]
    ends = []
    for n in (1, 3, 8):
        padded = [np.append(rows, [n_rows] * (-6 % n)) for rows in batches]
        ends.append(train(task, optax.sgd(0.05), start(task, dataset), padded, dataset, jax.devices()[:n]))
    for variables, losses in ends[1:]:
        np.testing.assert_allclose(losses, ends[0][1], rtol=2e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), variables, ends[0][0])


def test_an_image_and_one_of_its_own_captions(dataset):
    """Captions written for an image are never drawn for another one."""
    images = dataset.splits["trainval"]
    of_image = [Caption(int(dataset.labels[i]), int(i), f"image{i} says {n}") for i in images for n in range(2)]
    unseen = [Caption(int(c), OF_CLASS, f"unseen {c} says") for c in dataset.unseen]
    own = dataclasses.replace(dataset, descriptions=arrange([*of_image, *unseen], dataset.classes))
    task, rows = ds_sje(own.spec, **TINY), classes(own).columns
    training = own.descriptions.for_training(images, own.seen, own.classes).sentences
    said = set()
    for seed in range(40):
        batch = one_of_each_class(own, seed)
        for row, caption in zip(batch, drawn(task, own, batch, jax.random.key(seed)), strict=True):
            i = int(training[caption].split()[0].removeprefix("image"))
            assert i == rows["image"][row]
            np.testing.assert_array_equal(rows["features"][row], own.features[i])
            said.add(training[caption])
    assert len(said) > 60  # of 9 x 6 x 2


def test_it_learns(dataset):
    """On noisy features; all encoders learn in the table of configs/suites/cub_sje.py."""
    task = ds_sje(dataset.spec, encoder="attributes")
    batches = [one_of_each_class(dataset, seed) for seed in range(270)]
    variables, losses = train(task, optax.adam(1e-2), start(task, dataset), batches, dataset)
    assert np.mean(losses[-20:]) < 0.35 * np.mean(losses[:3])
    batch = batch_of(task, dataset, one_of_each_class(dataset, 1000))
    assert float(on_mesh(task, variables, batch, jax.random.key(0))[0]["batch_top1"]) > 0.3  # of 9 classes


def test_sides_of_encoders_of_text_and_of_attributes(dataset):
    """A class is embedded from its attributes; without them the engine takes the mean over its captions."""
    assert set(ds_sje(dataset.spec, **TINY).embed) == {"image", "text"}
    task = ds_sje(dataset.spec, encoder="attributes", semantics_scale="sqrt")
    variables, ids = start(task, dataset), np.array([7, 2])
    assert set(task.embed) == {"image", "class"} and not task.tokens
    kernel, bias = (np.asarray(variables.params["visual"][k][...], np.float64) for k in ("kernel", "bias"))
    wanted = dataset.class_vectors("sqrt")[ids] @ kernel + bias
    np.testing.assert_allclose(embed(task, "class", variables, ids, dataset), wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("scale", ["none", "unit", "standard"])
def test_scales_of_the_features_enter_both_the_loss_and_the_queries(dataset, scale):
    task = ds_sje(dataset.spec, encoder="attributes", features_scale=scale)
    variables, rows, key = start(task, dataset, 1), one_of_each_class(dataset), jax.random.key(5)
    ids = classes(dataset).columns["image"][rows]
    v = embed(task, "image", variables, ids, dataset).astype(np.float64)
    t = embed(task, "class", variables, dataset.labels[ids], dataset).astype(np.float64)
    losses, _ = on_mesh(task, variables, batch_of(task, dataset, rows), key)
    assert float(losses["loss"]) == pytest.approx(by_loops(v, t, 1.0, True)[0], rel=1e-4)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (dict(encoder="char_cnn_rn"), "did you mean 'char_cnn_rnn'"),
        (dict(margin=0), "task.margin is 0"),
        (dict(width=0), "task.width is 0"),
        (dict(dropout=1), "task.dropout is 1"),
        (dict(features_scale="uint"), "did you mean 'unit'"),
        (dict(encoder="word2vec"), "task.word_vectors is empty"),
    ],
)
def test_bad_settings(dataset, setting, told):
    with pytest.raises(UserError, match=told):
        ds_sje(dataset.spec, **setting)


def test_without_captions(dataset):
    bare = dataclasses.replace(dataset, descriptions=None)
    with pytest.raises(UserError, match="task ds_sje reads sentences: set data.descriptions"):
        ds_sje(bare.spec)
    task = ds_sje(bare.spec, encoder="attributes")
    assert "text" not in task.embed and task.constants(bare)["inputs"].shape == (12, 16)
