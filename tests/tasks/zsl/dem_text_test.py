"""The description branch: LSTM by loops, sentences drawn, prototypes as means, and that it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from demjax.checks import UserError
from demjax.data import load
from demjax.data.text import vocabulary as text
from demjax.data.text.captions import OF_CLASS, Caption, arrange
from demjax.models import DescriptionEncoder
from demjax.models.lstm import LSTM
from demjax.tasks.zsl.dem_text import dem_text
from demjax.tasks.zsl.ds_sje import ds_sje
from tests.tasks.planted import batch_of, embed, on_mesh, rows_of, start

SMALL = dict(n_classes=12, n_unseen=3, n_attributes=16, n_features=20, images_per_class=13)
SIZES = dict(embedding=5, units=4, hidden=7)


@pytest.fixture(scope="module")
def dataset():
    return load("planted", planted=SMALL, descriptions="generated")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_by_loops(model, words, phi):
    """The last h of one sentence [t, e], word by word, in float64."""
    w, u, b = (np.asarray(x, np.float64) for x in (model.inputs.kernel, model.recurrent.kernel, model.recurrent.bias))
    h = c = np.zeros(model.n_units)
    for x in words.astype(np.float64):
        i, f, o, g = np.split(x @ w + h @ u + b, 4)
        c = sigmoid(f + 2) * c + sigmoid(i) * phi(g)
        h = sigmoid(o) * phi(c)
    return h


@pytest.mark.parametrize(("cell", "phi"), [("tanh", np.tanh), ("relu", lambda x: np.maximum(x, 0))])
def test_both_directions_equal_a_loop_over_real_words(cell, phi):
    rngs = nnx.Rngs(0)
    model = LSTM(nnx.Linear(5, 16, use_bias=False, rngs=rngs), 4, cell=cell, forget_bias=2.0, rngs=rngs)
    x = np.random.default_rng(0).standard_normal((3, 6, 5)).astype(np.float32)
    lengths = [6, 2, 1]
    real = np.arange(6)[None] < np.array(lengths)[:, None]
    for reverse in (False, True):
        got = model(jnp.asarray(x), jnp.asarray(real), reverse)
        for row, n in enumerate(lengths):
            words = x[row, :n][::-1] if reverse else x[row, :n]
            np.testing.assert_allclose(got[row], lstm_by_loops(model, words, phi), rtol=1e-4, atol=1e-6)


def test_padding_changes_nothing():
    model = DescriptionEncoder(9, 5, 4, 7, 6, cell="relu", rngs=nnx.Rngs(0))
    short, long = np.array([[2, 3, 4]]), np.array([[2, 3, 4, 0, 0]])
    np.testing.assert_allclose(model(jnp.asarray(short)), model(jnp.asarray(long)), rtol=1e-6)


@pytest.mark.parametrize("scale", ["sqrt", "unit", "none"])
def test_the_text_side_reads_sentences_and_the_attributes_of_their_class(dataset, scale):
    task = dem_text(dataset.spec, **SIZES, fused=True, semantics_scale=scale)
    assert task.columns("text") == ("sentences", "semantics") and set(task.embed) == {"image", "text"}
    variables = start(task, dataset)
    model = nnx.merge(nnx.graphdef(_encoder(dataset, fused=True)), variables.params)
    for c in (7, 2):
        ids, own = dataset.descriptions.rows_of(np.array([c])), tokens_of(dataset, c)
        attributes = jnp.tile(jnp.asarray(dataset.class_vectors(scale)[c])[None], (len(own), 1))
        expected = model(jnp.asarray(own), attributes)
        np.testing.assert_allclose(embed(task, "text", variables, ids, dataset), expected, rtol=1e-3, atol=1e-5)


def tokens_of(dataset, c):
    """The sentences of a class as word numbers; the generated captions of the seen classes have all 16 words."""
    known = text.vocabulary(dataset.descriptions.sentences)
    rows = dataset.descriptions.rows_of(np.array([c]))
    return text.numbered([dataset.descriptions.sentences[i] for i in rows], known)


def _encoder(dataset, fused):
    n_words = 16 + 2
    return DescriptionEncoder(
        n_words, 5, 4, 7, 20, n_attributes=6 if fused else 0, cell="relu", rngs=nnx.Rngs(jax.random.key(0))
    )


def fit_of(task, variables, dataset, rows, key):
    """The sum of squared distances that the loss reports of these rows."""
    return float(task.loss(variables, batch_of(task, dataset, rows), key, "data")[2]["fit"])


def test_the_draw_depends_on_row_and_step_only(dataset):
    """So a batch on eight devices draws what it draws on one; and always a sentence of the right class."""
    task = dem_text(dataset.spec, **SIZES)
    variables, rows = start(task, dataset), rows_of(task, dataset)
    model = nnx.merge(nnx.graphdef(_encoder(dataset, fused=False)), variables.params)
    key = jax.random.key(3)
    losses = [fit_of(task, variables, dataset, [0, 1, 2], k) for k in (key, key, jax.random.key(4))]
    assert losses[0] == losses[1] != losses[2]
    one_by_one = [fit_of(task, variables, dataset, [i], key) for i in range(3)]
    for i, fit in enumerate(one_by_one):
        sentences = tokens_of(dataset, int(rows["label"][i]))
        possible = np.sum((np.asarray(model(jnp.asarray(sentences))) - rows["features"][i]) ** 2, axis=1)
        assert np.min(np.abs(possible - fit)) < 1e-3 * fit
    assert losses[0] == pytest.approx(sum(one_by_one), rel=1e-5)


def test_a_caption_of_an_image_is_drawn_for_that_image_only(dataset):
    """Row by row, for many draws: the loss is that of a caption of the image's own."""
    images = dataset.splits["trainval"]
    of_image = [Caption(int(dataset.labels[i]), int(i), f"image{i} says {n}") for i in images for n in range(2)]
    unseen = [Caption(int(c), OF_CLASS, f"unseen {c} says") for c in dataset.unseen]
    own = dataclasses.replace(dataset, descriptions=arrange([*of_image, *unseen], dataset.classes))
    task = dem_text(own.spec, **SIZES)
    training = own.descriptions.for_training(images, own.seen, own.classes).sentences
    constants = task.constants(own)
    first, count = constants["first"], constants["count"]
    assert len(first) == len(images) + 1
    for row, image in enumerate(images):
        said = training[first[row] : first[row] + count[row]]
        assert sorted(said) == [f"image{image} says {n}" for n in range(2)]
    rows, variables = rows_of(task, own), start(task, own)
    for row, draw in ((0, 0), (5, 1), (5, 2)):
        fit = fit_of(task, variables, own, [row], jax.random.key(draw))
        tokens = task.tokens["sentences"](training[first[row] : first[row] + count[row]])
        said = np.asarray(task.embed["text"](variables, {"sentences": jnp.asarray(tokens)}))
        possible = np.sum((said - rows["features"][row]) ** 2, axis=1)
        assert np.min(np.abs(possible - fit)) < 1e-3 * fit


def test_without_descriptions(dataset):
    with pytest.raises(UserError, match="set data.descriptions"):
        dem_text(dataclasses.replace(dataset, descriptions=None).spec)


def test_any_encoder_of_sentences_serves_as_the_branch(dataset):
    """One import, no copy: f is the encoder of DS-SJE behind a ReLU, and the sentences enter as they do there."""
    for encoder in ("char_cnn_rnn", "bow"):
        task, sje = (build(dataset.spec, encoder=encoder, width=0.02) for build in (dem_text, ds_sje))
        np.testing.assert_array_equal(task.constants(dataset)["inputs"], sje.constants(dataset)["inputs"])
    variables = start(task, dataset)
    read, bare = (embed(t, "text", variables, np.arange(3), dataset) for t in (task, sje))
    np.testing.assert_allclose(read, np.maximum(bare, 0), rtol=1e-6)
    _, gradient = on_mesh(task, variables, batch_of(task, dataset, np.arange(4)), jax.random.key(0))
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (dict(encoder="word_cnn", fused=True), "task.fused is for task.encoder=bilstm"),
        (dict(encoder="attributes"), "task.encoder is 'attributes'"),
        (dict(units=0), "task.units is 0"),
        (dict(cell="rleu"), "did you mean 'relu'"),
        (dict(score="dot"), "task.score is 'dot'"),
        (dict(l2=-1.0), "task.l2 is -1"),
    ],
)
def test_bad_settings(dataset, setting, told):
    with pytest.raises(UserError, match=told):
        dem_text(dataset.spec, **setting)
