"""Class normalisation against NumPy in float64: network, loss, one step, and what unseen classes may not do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.data.batches import examples
from demjax.data.sources import planted as synthetic
from demjax.mesh import data_mesh, replicate
from demjax.models.class_norm import standardise
from demjax.tasks.class_norm import class_norm
from demjax.tasks.scaling import dropout
from demjax.train.epoch import Plan, compile_epoch, init_state
from demjax.train.evaluate import evaluate
from demjax.train.optimizer import make_optimizer

DATA = synthetic.plant(n_classes=24, n_unseen=6, n_attributes=6, n_features=20, images_per_class=13)
A = DATA.semantics / np.linalg.norm(DATA.semantics, axis=1, keepdims=True) * np.sqrt(6)
LAYERS = ("first", "second", "visual")


def weights_of(params):
    return [np.asarray(params[layer][name][...], np.float64) for layer in LAYERS for name in ("kernel", "bias")]


def normal(h, of, divide_by):
    v = of.var(axis=0, ddof=1) + 1e-5
    return {"none": h, "std": (h - of.mean(0)) / np.sqrt(v), "variance": (h - of.mean(0)) / v}[divide_by]


def forward(w, classes, seen, divide_by="std"):
    h, of = (np.maximum(x @ w[0] + w[1], 0) @ w[2] + w[3] for x in (classes, seen))
    h, of = np.maximum(normal(h, of, divide_by), 0), np.maximum(normal(of, of, divide_by), 0)
    return np.maximum(normal(h, of, divide_by) @ w[4] + w[5], 0)


def numpy_loss(w, x, label, scale=25.0, divide_by="std"):
    p = forward(w, A[DATA.seen], A[DATA.seen], divide_by)
    cos = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (p / np.linalg.norm(p, axis=1, keepdims=True)).T
    logits = scale * cos
    truth = np.searchsorted(DATA.seen, label)
    return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(x)), truth])


def test_standardisation_is_batch_norm_with_the_unbiased_variance():
    h = np.random.default_rng(0).standard_normal((9, 4)) * [1, 5, 0.1, 3] + 2
    got = np.asarray(standardise(jnp.asarray(h, jnp.float32), jnp.asarray(h, jnp.float32), "std"))
    np.testing.assert_allclose(got, (h - h.mean(0)) / np.sqrt(h.var(0, ddof=1) + 1e-5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize("divide_by", ["std", "variance", "none"])
def test_prototypes_and_loss_equal_numpy(divide_by):
    task = class_norm(DATA, hidden=8, divide_by=divide_by)
    params = task.init(jax.random.key(1))
    w = weights_of(params)
    ids = np.array([5, 0, 20])
    expected = forward(w, A[ids], A[DATA.seen], divide_by)
    np.testing.assert_allclose(task.gallery(params, DATA, ids), expected, rtol=1e-3, atol=1e-5)
    rows = examples(DATA).columns
    batch = {k: jnp.asarray(v) for k, v in (rows | task.tables).items()}
    total, count, _ = task.loss(params, batch, jax.random.key(0), "data")
    x, label = rows["features"][:-1].astype(np.float64), rows["label"][:-1]
    assert float(count) == len(x)
    assert float(total / count) == pytest.approx(numpy_loss(w, x, label, divide_by=divide_by), rel=1e-4)


def test_first_steps_of_coupled_adam_equal_numpy():
    """Gradients by central differences of the float64 loss; weight decay joins them before Adam."""
    task = class_norm(DATA, hidden=3)
    optimizer = make_optimizer(name="adam", learning_rate=1e-2, total_steps=10, weight_decay=0.05)
    mesh = data_mesh(jax.devices()[:1])
    state = replicate(init_state(task, optimizer, 0), mesh)
    w = weights_of(state.params)
    rows = examples(DATA).columns
    n = len(rows["weight"]) - 1
    x, label = rows["features"][:-1].astype(np.float64), rows["label"][:-1]
    epoch = compile_epoch(task, optimizer, mesh, Plan(n, n, passes=2))
    state, _ = epoch(state, replicate({k: rows[k] for k in task.fields}, mesh), replicate(dict(task.tables), mesh))
    m, v = [np.zeros_like(p) for p in w], [np.zeros_like(p) for p in w]
    for step in (1, 2):
        grads = []
        for i, p in enumerate(w):
            g = np.zeros_like(p)
            for j in np.ndindex(p.shape):
                up, down = ([q.copy() for q in w] for _ in range(2))
                up[i][j] += 1e-6
                down[i][j] -= 1e-6
                g[j] = (numpy_loss(up, x, label) - numpy_loss(down, x, label)) / 2e-6
            grads.append(g + 0.05 * p)
        for i, g in enumerate(grads):
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g * g
            w[i] = w[i] - 1e-2 * (m[i] / (1 - 0.9**step)) / (np.sqrt(v[i] / (1 - 0.999**step)) + 1e-8)
    for got, want in zip(weights_of(state.params), w, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-4)


def test_power_of_the_features_enters_loss_and_queries():
    task = class_norm(DATA, hidden=8, features_power=0.5)
    params = task.init(jax.random.key(1))
    rows = examples(DATA).columns
    signed = rows["features"][:-1].astype(np.float64) * np.where(np.arange(20) % 2, 1, -1)
    batch = {k: jnp.asarray(v) for k, v in (rows | task.tables).items()} | {
        "features": jnp.asarray(np.vstack([signed, np.zeros(20)]), jnp.float32)
    }
    total, count, _ = task.loss(params, batch, jax.random.key(0), "data")
    x = np.sign(signed) * np.sqrt(np.abs(signed))
    assert float(total / count) == pytest.approx(numpy_loss(weights_of(params), x, rows["label"][:-1]), rel=1e-4)
    np.testing.assert_allclose(task.queries(params, jnp.asarray(signed, jnp.float32)), x, rtol=1e-5)


def test_dropout_hides_a_share_of_the_seen_classes_in_training_only():
    task, plain = class_norm(DATA, hidden=8, semantics_dropout=0.3), class_norm(DATA, hidden=8)
    params = task.init(jax.random.key(1))
    batch = {k: jnp.asarray(v) for k, v in (examples(DATA).columns | task.tables).items()}

    def loss(of, key):
        return float(of.loss(params, batch, jax.random.key(key), "data")[0])

    assert loss(task, 0) == loss(task, 0)
    assert len({loss(task, 0), loss(task, 1), loss(plain, 0)}) == 3
    everyone = np.arange(24)
    np.testing.assert_array_equal(task.gallery(params, DATA, everyone), plain.gallery(params, DATA, everyone))


def test_an_ensemble_is_the_mean_cosine_of_members_trained_alone():
    rows, keys = examples(DATA).columns, jax.random.split(jax.random.key(3), 2)
    alone, together = (
        class_norm(DATA, hidden=8, features_power=0.5),
        class_norm(DATA, hidden=8, features_power=0.5, members=2),
    )
    params, parts = together.init(jax.random.key(3)), [alone.init(key) for key in keys]
    for i, part in enumerate(parts):
        for a, b in zip(weights_of(jax.tree.map(lambda x, i=i: x[i], params)), weights_of(part), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-7)
    batch = {k: jnp.asarray(v) for k, v in (rows | together.tables).items()}
    gradient = jax.jit(jax.grad(lambda p: together.loss(p, batch, jax.random.key(0), "data")[0]))(params)
    for i, part in enumerate(parts):
        own = jax.jit(jax.grad(lambda p: alone.loss(p, batch, jax.random.key(0), "data")[0]))(part)
        for a, b in zip(weights_of(jax.tree.map(lambda x, i=i: x[i], gradient)), weights_of(own), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    x, everyone = rows["features"][:5].astype(np.float64), np.arange(24)
    x = np.sign(x) * np.sqrt(np.abs(x))
    cosines = [x / np.linalg.norm(x, axis=1, keepdims=True) @ unit(alone.gallery(p, DATA, everyone)).T for p in parts]
    queries = np.asarray(together.queries(params, jnp.asarray(rows["features"][:5])))
    scores = queries @ np.asarray(together.gallery(params, DATA, everyone)).T
    np.testing.assert_allclose(scores, np.mean(cosines, axis=0), atol=1e-5)
    assert together.score == "dot"


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_dropout_keeps_the_mean():
    x = jnp.full((200, 300), 2.0)
    hidden = np.asarray(dropout(jax.random.key(0), x, 0.25))
    assert set(np.unique(hidden)) == {0.0, np.float32(2 / 0.75)}
    assert (hidden == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert dropout(jax.random.key(0), x, 0.0) is x


def test_unseen_classes_do_not_change_prototypes():
    """Statistics of unseen classes would be transductive."""
    task = class_norm(DATA, hidden=8)
    params = task.init(jax.random.key(0))
    everyone = np.asarray(task.gallery(params, DATA, np.arange(24)))
    np.testing.assert_allclose(
        task.gallery(params, DATA, DATA.unseen[:1]), everyone[DATA.unseen[:1]], rtol=1e-4, atol=1e-6
    )
    changed = DATA.semantics.copy()
    changed[DATA.unseen[1:]] *= -7
    other = class_norm(dataclasses.replace(DATA, semantics=changed), hidden=8)
    same = np.setdiff1d(np.arange(24), DATA.unseen[1:])
    np.testing.assert_allclose(other.gallery(params, DATA, same), everyone[same], rtol=1e-4, atol=1e-6)


def test_the_last_layer_starts_with_the_variance_of_equation_10():
    task = class_norm(dataclasses.replace(DATA, features=np.tile(DATA.features, (1, 20))), hidden=300)
    kernel = weights_of(task.init(jax.random.key(0)))[4]
    assert kernel.shape == (300, 400)
    assert kernel.var() == pytest.approx(1 / (300 * 400), rel=0.02)
    usual = class_norm(DATA, hidden=300, output_init="default")
    assert weights_of(usual.init(jax.random.key(0)))[4].var() == pytest.approx(1 / (3 * 300), rel=0.1)


def test_it_learns_and_beats_nothing_learned():
    task = class_norm(DATA, hidden=64)
    optimizer = make_optimizer(name="adam", learning_rate=5e-3, total_steps=60)
    mesh = data_mesh(jax.devices()[:1])
    rows = examples(DATA).columns
    epoch = compile_epoch(task, optimizer, mesh, Plan(len(rows["weight"]) - 1, 64, passes=20))
    state = replicate(init_state(task, optimizer, 0), mesh)
    before = evaluate(task, state.params, DATA).metrics
    state, losses = epoch(state, {k: rows[k] for k in task.fields}, dict(task.tables))
    after = evaluate(task, state.params, DATA).metrics
    assert losses["loss"][-1] < losses["loss"][0] / 2
    assert after["gzsl/seen"] > before["gzsl/seen"] + 0.2 and after["zsl/top1"] > 1.5 / 6


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (dict(hidden=0), "task.hidden is 0"),
        (dict(members=0), "task.members is 0"),
        (dict(scale=0.0), "task.scale is 0"),
        (dict(semantics_dropout=1.0), "task.semantics_dropout is 1.0"),
        (dict(features_power=0.0), "task.features_power is 0.0"),
        (dict(divide_by="var"), "task.divide_by is 'var'"),
        (dict(output_init="he"), "task.output_init is 'he'"),
    ],
)
def test_bad_settings(setting, told):
    with pytest.raises(UserError, match=told):
        class_norm(DATA, **setting)


def test_weights_of_the_sources():
    a = DATA.semantics.shape[1]
    data = dataclasses.replace(DATA, parts={"first": 2, "second": a - 2})
    plain, weighted = class_norm(data, hidden=8), class_norm(data, hidden=8, source_weights=(0.5, 3.0))
    both = np.asarray(plain.tables["semantics"])
    np.testing.assert_allclose(
        weighted.tables["semantics"], np.concatenate([0.5 * both[:, :2], 3 * both[:, 2:]], axis=1), rtol=1e-6
    )
    params = weighted.init(jax.random.key(0))
    assert np.abs(weighted.gallery(params, data, [0, 1]) - plain.gallery(params, data, [0, 1])).max() > 1e-3
    with pytest.raises(UserError, match="source_weights has 1 numbers: expected 2, one for each source"):
        class_norm(data, source_weights=(1.0,))
