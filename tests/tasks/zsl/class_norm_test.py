"""Class normalisation against NumPy in float64: network, loss, one step, and what unseen classes may not do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from demjax.checks import UserError
from demjax.data.sources.planted import plant
from demjax.models.class_norm import standardise
from demjax.tasks.zsl.class_norm import class_norm
from tests.tasks.planted import batch_of, embed, start, train, unit

DATA = plant(n_classes=24, n_unseen=6, n_attributes=6, n_features=20, images_per_class=13)
SPEC = DATA.spec
EVERYONE = np.arange(24)
A = DATA.semantics / np.linalg.norm(DATA.semantics, axis=1, keepdims=True) * np.sqrt(6)
LAYERS = ("first", "second", "visual")


def begin(task, seed=0, data=DATA):
    return start(task, data, seed)


def classes_of(task, variables, ids=EVERYONE, data=DATA):
    return embed(task, "class", variables, ids, data)


def images_of_training():
    ids = DATA.splits["trainval"]
    return DATA.features[ids].astype(np.float64), DATA.labels[ids]


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
    task = class_norm(SPEC, hidden=8, divide_by=divide_by)
    variables = begin(task, 1)
    w = weights_of(variables.params)
    ids = np.array([5, 0, 20])
    expected = forward(w, A[ids], A[DATA.seen], divide_by)
    np.testing.assert_allclose(classes_of(task, variables, ids), expected, rtol=1e-3, atol=1e-5)
    total, count, _, _ = task.loss(variables, batch_of(task, DATA), jax.random.key(0), "data")
    x, label = images_of_training()
    assert float(count) == len(x)
    assert float(total / count) == pytest.approx(numpy_loss(w, x, label, divide_by=divide_by), rel=1e-4)


def test_first_steps_of_coupled_adam_equal_numpy():
    """Gradients by central differences of the float64 loss; weight decay joins them before Adam."""
    task = class_norm(SPEC, hidden=3)
    variables, (x, label) = begin(task), images_of_training()
    w = weights_of(variables.params)
    adam = optax.chain(optax.add_decayed_weights(0.05), optax.adam(1e-2))
    variables, _ = train(task, adam, variables, [np.arange(len(x))] * 2, DATA)
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
    for got, want in zip(weights_of(variables.params), w, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-4)


def test_power_of_the_features_enters_loss_and_queries():
    task = class_norm(SPEC, hidden=8, features_power=0.5)
    variables, (x, label) = begin(task, 1), images_of_training()
    signed = x * np.where(np.arange(20) % 2, 1, -1)
    batch = batch_of(task, DATA) | {"features": jnp.asarray(np.vstack([signed, np.zeros(20)]), jnp.float32)}
    total, count, _, _ = task.loss(variables, batch, jax.random.key(0), "data")
    powers = np.sign(signed) * np.sqrt(np.abs(signed))
    assert float(total / count) == pytest.approx(numpy_loss(weights_of(variables.params), powers, label), rel=1e-4)
    queries = task.embed["image"](variables, {"features": jnp.asarray(signed, jnp.float32)})
    np.testing.assert_allclose(queries, powers, rtol=1e-5)


def test_dropout_hides_a_share_of_the_seen_classes_in_training_only():
    task, plain = class_norm(SPEC, hidden=8, semantics_dropout=0.3), class_norm(SPEC, hidden=8)
    variables, batch = begin(task, 1), batch_of(task, DATA)

    def loss(of, key):
        return float(of.loss(variables, batch, jax.random.key(key), "data")[0])

    assert loss(task, 0) == loss(task, 0)
    assert len({loss(task, 0), loss(task, 1), loss(plain, 0)}) == 3
    np.testing.assert_array_equal(classes_of(task, variables), classes_of(plain, variables))


def test_an_ensemble_is_the_mean_cosine_of_members_trained_alone():
    keys = jax.random.split(jax.random.key(3), 2)
    alone, together = (class_norm(SPEC, hidden=8, features_power=0.5, members=n) for n in (1, 2))
    variables = begin(together, 3)
    parts = [variables._replace(params=alone.init(key).params) for key in keys]
    for i, part in enumerate(parts):
        member = weights_of(jax.tree.map(lambda x, i=i: x[i], variables.params))
        for a, b in zip(member, weights_of(part.params), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-7)
    batch = batch_of(together, DATA)

    def gradient_of(task, given):
        loss = lambda p: task.loss(given._replace(params=p), batch, jax.random.key(0), "data")[0]  # noqa: E731
        return jax.jit(jax.grad(loss))(given.params)

    gradient = gradient_of(together, variables)
    for i, part in enumerate(parts):
        member = weights_of(jax.tree.map(lambda x, i=i: x[i], gradient))
        for a, b in zip(member, weights_of(gradient_of(alone, part)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    x = DATA.features[:5].astype(np.float64)
    x = np.sign(x) * np.sqrt(np.abs(x))
    cosines = [unit(x) @ unit(classes_of(alone, part)).T for part in parts]
    scores = embed(together, "image", variables, np.arange(5), DATA) @ classes_of(together, variables).T
    np.testing.assert_allclose(scores, np.mean(cosines, axis=0), atol=1e-5)
    assert together.score.kind == "dot"


def test_unseen_classes_do_not_change_prototypes():
    """Statistics of unseen classes would be transductive."""
    task = class_norm(SPEC, hidden=8)
    variables = begin(task)
    everyone = classes_of(task, variables)
    first, others = DATA.unseen[:1], DATA.unseen[1:]
    np.testing.assert_allclose(classes_of(task, variables, first), everyone[first], rtol=1e-4, atol=1e-6)
    changed = DATA.semantics.copy()
    changed[others] *= -7
    other = dataclasses.replace(DATA, semantics=changed)
    again = start(task, other, params=variables.params)
    same = np.setdiff1d(EVERYONE, others)
    np.testing.assert_allclose(classes_of(task, again, EVERYONE, other)[same], everyone[same], rtol=1e-4, atol=1e-6)


def test_the_last_layer_starts_with_the_variance_of_equation_10():
    wide = dataclasses.replace(DATA, features=np.tile(DATA.features, (1, 20)))
    kernel = weights_of(class_norm(wide.spec, hidden=300).init(jax.random.key(0)).params)[4]
    assert kernel.shape == (300, 400)
    assert kernel.var() == pytest.approx(1 / (300 * 400), rel=0.02)
    usual = class_norm(SPEC, hidden=300, output_init="default")
    assert weights_of(usual.init(jax.random.key(0)).params)[4].var() == pytest.approx(1 / (3 * 300), rel=0.1)


def test_it_learns_and_beats_nothing_learned():
    task, x, rng = class_norm(SPEC, hidden=64), unit(DATA.features), np.random.default_rng(0)

    def accuracy(variables, split, candidates):
        ids = DATA.splits[split]
        nearest = candidates[np.argmax(x[ids] @ unit(classes_of(task, variables, candidates)).T, axis=1)]
        return float(np.mean(nearest == DATA.labels[ids]))

    before, n = begin(task, 1), len(DATA.splits["trainval"])
    passes = [np.append(rng.permutation(n), np.full(-n % 64, n)) for _ in range(20)]  # filled up with the empty row
    batches = np.concatenate(passes).reshape(-1, 64)
    after, losses = train(task, optax.adam(5e-3), before, batches, DATA)
    assert losses[-1] < losses[0] / 2
    assert accuracy(after, "test_seen", EVERYONE) > accuracy(before, "test_seen", EVERYONE) + 0.15
    assert accuracy(after, "test_unseen", DATA.unseen) > 1.5 / 6


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (dict(hidden=0), "task.hidden is 0"),
        (dict(members=0), "task.members is 0"),
        (dict(scale=0.0), "task.scale is 0"),
        (dict(semantics_dropout=1.0), "task.semantics_dropout is 1.0"),
        (dict(features_power=0.0), "task.features_power is 0.0"),
        (dict(divide_by="var"), "task.divide_by is 'var'"),
        (dict(semantics_scale="sqr"), "did you mean 'sqrt'"),
        (dict(output_init="he"), "task.output_init is 'he'"),
    ],
)
def test_bad_settings(setting, told):
    with pytest.raises(UserError, match=told):
        class_norm(SPEC, **setting)


def test_weights_of_the_sources():
    a = DATA.semantics.shape[1]
    data = dataclasses.replace(DATA, parts={"first": 2, "second": a - 2})
    plain, weighted = (class_norm(data.spec, hidden=8, source_weights=w) for w in ((), (0.5, 3.0)))
    both = plain.constants(data)["semantics"]
    wanted = np.concatenate([0.5 * both[:, :2], 3 * both[:, 2:]], axis=1)
    np.testing.assert_allclose(weighted.constants(data)["semantics"], wanted, rtol=1e-6)
    np.testing.assert_array_equal(
        weighted.statistics(data)["seen_semantics"], weighted.constants(data)["semantics"][data.seen]
    )
    variables = start(plain, data)
    again = start(weighted, data, params=variables.params)
    assert np.abs(classes_of(weighted, again, [0, 1], data) - classes_of(plain, variables, [0, 1], data)).max() > 1e-3
    w = weights_of(variables.params)
    np.testing.assert_allclose(
        classes_of(weighted, again, [0, 1], data), forward(w, wanted[:2], wanted[data.seen]), rtol=1e-3, atol=1e-5
    )
    with pytest.raises(UserError, match="source_weights is .*: expected 2 numbers in a tuple, one for each source"):
        class_norm(data.spec, source_weights=(1.0,))
