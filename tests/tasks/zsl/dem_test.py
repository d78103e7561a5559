"""DEM against a float64 reference in NumPy: written from the formulas, gradient and Adam included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.data.sources.planted import plant
from demjax.mesh import data_mesh
from demjax.tasks import Variables
from demjax.tasks.zsl.dem import FORMS, dem
from tests.tasks.planted import batch_of, embed, start

SIZES = dict(n_classes=12, n_unseen=3, n_attributes=6, n_features=20, images_per_class=13)
STEPS = 100


@pytest.fixture(scope="module")
def dataset():
    return plant(**SIZES)


def numpy_losses(weights, batches, semantics, *, form, l2, rate):
    """Losses of Adam in float64; weights = [W1, b1, W2, b2], batches of (x, label)."""
    w = [np.array(p, np.float64) for p in weights]
    m, v = [np.zeros_like(p) for p in w], [np.zeros_like(p) for p in w]
    losses = []
    for step, (x, label) in enumerate(batches, start=1):
        x, y = x.astype(np.float64), semantics[label].astype(np.float64)
        n, d = x.shape
        a1 = y @ w[0] + w[1]
        h = np.maximum(a1, 0)
        a2 = h @ w[2] + w[3]
        out = np.maximum(a2, 0)
        if form == "released":
            scale, decay = 1 / (n * d), [l2 / 2] * 4
        else:
            scale, decay = 1 / n, [l2, 0, l2, 0]
        losses.append(scale * ((x - out) ** 2).sum() + sum(c * (p**2).sum() for c, p in zip(decay, w, strict=True)))
        g2 = scale * 2 * (out - x) * (a2 > 0)
        g1 = (g2 @ w[2].T) * (a1 > 0)
        grads = [y.T @ g1, g1.sum(0), h.T @ g2, g2.sum(0)]
        for i, c in enumerate(decay):
            g = grads[i] + 2 * c * w[i]
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g * g
            w[i] -= rate * (m[i] / (1 - 0.9**step)) / (np.sqrt(v[i] / (1 - 0.999**step)) + 1e-8)
    return np.array(losses)


def weights_of(params):
    return [np.array(params[layer][name][...]) for layer in ("hidden", "visual") for name in ("kernel", "bias")]


def scaled(semantics, how):
    """Row norms by a loop."""
    if how == "none":
        return semantics
    return np.array([row / np.sqrt((row.astype(np.float64) ** 2).sum()) * np.sqrt(len(row)) for row in semantics])


# The settings of configs/cub.py and of its `:released`, with a rate at which 100 steps change something.
@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        (dict(hidden=16, init="he", semantics_scale="sqrt", loss_form="paper", l2=0.02), 1e-3),
        (dict(hidden=16, init="released", semantics_scale="none", loss_form="released", l2=1e-2), 1e-5),
        (dict(hidden=16, init="released", semantics_scale="none", loss_form="released", l2=1e-2), 1e-2),
    ],
    ids=["default", "released", "released, large steps"],
)
def test_first_100_losses_equal_numpy(dataset, settings, rate):
    # The engine is imported here, so that the other tests of this file stand without it.
    from demjax.train.engine.epoch import Plan, batch_order, compile_epoch
    from demjax.train.engine.optimizer import make_optimizer
    from demjax.train.engine.placement import place_rows
    from demjax.train.engine.state import init_state

    task = dem(dataset.spec, **settings)
    optimizer = make_optimizer(name="adam", learning_rate=rate, total_steps=STEPS)
    mesh = data_mesh(jax.devices()[:1])
    state = init_state(task, optimizer, 0)
    weights, key = weights_of(state.variables.params), np.array(state.key)
    rows = task.batchings["examples"](dataset)
    n, batch_size = rows.n_rows, 10
    passes = STEPS // (-(-n // batch_size)) + 1
    epoch = compile_epoch(task, optimizer, mesh, Plan(n_rows=n, batch_size=batch_size, passes=passes))
    constants = {name: jnp.asarray(value) for name, value in task.constants(dataset).items()}
    state, losses = epoch(state, place_rows(rows, task.fields, mesh), constants)

    batches = []
    for number in range(passes):  # the documented order: a permutation for each pass
        order_key, _ = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(key), number))
        for ids in np.array(batch_order(order_key, n, batch_size, batch_size)):
            ids = ids[ids < n]  # the incomplete last batch: its gaps are not images
            images = dataset.splits["trainval"][ids]
            batches.append((dataset.features[images], dataset.labels[images]))
    semantics = scaled(dataset.semantics, settings["semantics_scale"])
    form, l2 = settings["loss_form"], settings["l2"]
    expected = numpy_losses(weights, batches[:STEPS], semantics, form=form, l2=l2, rate=rate)
    np.testing.assert_allclose(losses["loss"][:STEPS], expected, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_class_sums_have_the_loss_and_gradient_of_all_images(dataset, form):
    task = dem(dataset.spec, hidden=16, loss_form=form, l2=0.1)
    params = start(task, dataset).params

    def mean_loss(batching):
        batch = batch_of(task, dataset, None, batching)

        def loss(p):
            total, count, _, _ = task.loss(Variables(p), batch, jax.random.key(0), "data")
            return total / count

        return jax.value_and_grad(loss)(params)

    images, classes = mean_loss("examples"), mean_loss("class_sums")
    assert list(task.batchings) == ["class_sums", "examples"]
    np.testing.assert_allclose(images[0], classes[0], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(images[1]), jax.tree.leaves(classes[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_two_forms_differ_by_constants_only(dataset):
    """lambda_paper = lambda_released * d / 2, up to the biases, which are zero after a `he` start."""
    d = dataset.features.shape[1]
    released = dem(dataset.spec, hidden=16, loss_form="released", l2=0.3)
    paper = dem(dataset.spec, hidden=16, loss_form="paper", l2=0.3 * d / 2)
    variables = start(released, dataset)
    (a, n, _, _), (b, _, _, _) = (
        t.loss(variables, batch_of(t, dataset, None, "examples"), None, "data") for t in (released, paper)
    )
    assert float(b / n) == pytest.approx(float(a / n) * d, rel=1e-5)


def test_the_class_side_embeds_the_classes_asked_for(dataset):
    task = dem(dataset.spec, hidden=16)
    variables = start(task, dataset)
    everyone = embed(task, "class", variables, np.arange(12), dataset)
    ids = np.array([7, 2])
    np.testing.assert_allclose(embed(task, "class", variables, ids, dataset), everyone[ids], rtol=1e-6)
    assert (everyone >= 0).all()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (dict(hidden=-3), "task.hidden is -3: expected a whole number >= 0"),
        (dict(l2=-1.0), "task.l2 is -1.0"),
        (dict(l2=float("nan")), "task.l2 is nan"),
        (dict(init="hee"), "did you mean 'he'"),
        (dict(loss_form="papers"), "did you mean 'paper'"),
        (dict(score="cosin"), "did you mean 'cosine'"),
        (dict(semantics_scale="sqr"), "did you mean 'sqrt'"),
    ],
)
def test_bad_settings(dataset, setting, told):
    with pytest.raises(UserError, match=told):
        dem(dataset.spec, **setting)


def test_the_paper_has_no_inner_product(dataset):
    with pytest.raises(UserError, match="task.score is 'dot': known: euclidean, cosine"):
        dem(dataset.spec, score="dot")
