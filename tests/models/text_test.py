"""The text encoders: published sizes and lengths, and every layer against NumPy, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from demjax.models import CHARACTERS, ENCODERS, LENGTHS, VECTORS, WORDS, TextEncoder
from demjax.models.convolution import BOUND, Convolution, OneHotConvolution, max_pool, uniform
from demjax.models.lstm import LSTM
from demjax.models.recurrent import FixedGRU, FixedRNN

V = 1000  # words; 312 attributes; 1024 features
# Parameters, and the lengths of what the convolutions and pools put out, as published.
PUBLISHED = {
    "char_cnn_rnn": (1_814_144, [198, 66, 63, 21, 18, 8]),
    "char_cnn_rnn_long": (1_814_144, [198, 66, 63, 21, 18, 18]),
    "char_cnn_gru": (4_045_184, [198, 66, 63, 21, 18, 18]),
    "char_cnn": (3_220_224, [198, 66, 63, 21, 18, 6]),
    "char_cnn_large": (5_090_688, [198, 66, 63, 21, 18, 6]),
    "word_cnn_rnn": (2_100_224 + 3 * 512 * V + 512, [28, 28, 27, 9, 8, 8]),
    "word_cnn": (2_755_072 + 768 * V + 256, [28, 9, 7, 7, 5, 5]),
    "bow": (1024 * V + 1024, []),
    "attributes": (1024 * 312 + 1024, []),
    "word2vec": (1024 * 312 + 1024, []),
}
SYMBOLS = {CHARACTERS: 70, WORDS: V, VECTORS: 312}


def abstract(name, n_in, n_features=1024, **sizes):
    return nnx.eval_shape(lambda: TextEncoder(name, n_in, n_features, rngs=nnx.Rngs(0), **sizes))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    model = abstract(name, SYMBOLS[ENCODERS[name].reads])
    assert sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param))) == PUBLISHED[name][0]


@pytest.mark.parametrize("name", [n for n in PUBLISHED if ENCODERS[n].layers])
def test_published_lengths(name):
    reads, layers, _ = ENCODERS[name]
    length, trace = LENGTHS[reads], []
    for layer in layers:
        x = jnp.zeros((1, length, 1))
        convolved = jnp.zeros((1, length - layer.width + 1, 1))
        assert Convolution(1, 1, layer.width, rngs=nnx.Rngs(0))(x).shape == convolved.shape
        length = max_pool(convolved, layer.pool, layer.stride).shape[1]
        trace += [convolved.shape[1], length]
    assert trace == PUBLISHED[name][1]


# ------------------------------------------------------------------------------------------------ NumPy, step by step


def arrays(model):
    """Parameters as float64, by name of the module: {"convolutions.0": (kernel, bias), ...}."""
    flat: dict[str, dict[str, np.ndarray]] = {}
    for path, x in jax.tree_util.tree_flatten_with_path(nnx.state(model, nnx.Param))[0]:
        *module, kind = [str(getattr(p, "key", getattr(p, "name", p))) for p in path if "value" not in str(p)]
        flat.setdefault(".".join(module), {})[kind] = np.asarray(x, np.float64)
    return {name: (own["kernel"], own["bias"]) for name, own in flat.items()}


def one_hot(ids, n):
    found = np.zeros((len(ids), n))
    for t, i in enumerate(ids):
        if i:
            found[t, i - 1] = 1
    return found


def convolve(x, kernel, bias):
    width = len(kernel)
    return np.array([bias + sum(x[t + k] @ kernel[k] for k in range(width)) for t in range(len(x) - width + 1)])


def threshold(x):
    return np.where(x > 1e-6, x, 0.0)


def pool(x, width, stride):
    return np.array([x[t : t + width].max(axis=0) for t in range(0, len(x) - width + 1, stride)])


def rnn(x, inputs, hidden):
    (w, b), (u, c) = inputs, hidden
    states = [threshold(x[0] @ w + b)]
    for now in x[1:]:
        states.append(threshold(now @ w + b + states[-1] @ u + c))
    return np.mean(states, axis=0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(x, inputs, gates, candidate):
    (w, b), (g, d), (u, c) = inputs, gates, candidate
    n = u.shape[0]
    states = [np.tanh((x[0] @ w + b)[2 * n :])]
    for now in x[1:]:
        h, p = states[-1], now @ w + b
        z, r = sigmoid(p[:n] + h @ g[:, :n] + d[:n]), sigmoid(p[n : 2 * n] + h @ g[:, n:] + d[n:])
        states.append(z * np.tanh(p[2 * n :] + (r * h) @ u + c) + (1 - z) * h)
    return np.mean(states, axis=0)


def lstm(x, inputs, recurrent):
    (w, b), (u, c) = (inputs[0][0], inputs[1]), recurrent
    h = cell = np.zeros(u.shape[0])
    states = []
    for now in x:
        if now.any():  # no symbol: the state stays
            i, f, o, g = np.split(now @ w + b + h @ u + c, 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(cell)
            states.append(h)
    return np.mean(states, axis=0)


def by_steps(name, model, row, n_in):
    reads, layers, then = ENCODERS[name]
    p = arrays(model)
    if reads == VECTORS:
        return row @ p["visual"][0] + p["visual"][1]
    x = one_hot(row, n_in)
    if then == "sum":
        return sum(now @ p["visual"][0][0] for now in x) + p["visual"][1]
    for i, layer in enumerate(layers):
        x = threshold(convolve(x, *p[f"convolutions.{i}"]))
        x = pool(x, layer.pool, layer.stride) if layer.pool > 1 else x
    if then == "lstm":
        x = lstm(x, p["recurrent.inputs"], p["recurrent.recurrent"])
    elif then == "rnn":
        x = rnn(x, p["recurrent.inputs"], p["recurrent.hidden"])
    elif then == "gru":
        x = gru(x, p["recurrent.inputs"], p["recurrent.gates"], p["recurrent.candidate"])
    x = x.ravel()
    if then == "two_linear":
        x = x @ p["hidden"][0] + p["hidden"][1]
    return x @ p["visual"][0] + p["visual"][1]


ALIKE = ("char_cnn_rnn_long", "char_cnn_large", "word2vec")  # the same code with other layers


@pytest.mark.parametrize("name", [name for name in ENCODERS if name not in ALIKE])
def test_equal_to_numpy_step_by_step(name):
    reads = ENCODERS[name].reads
    n_in, rng = {CHARACTERS: 70, WORDS: 25, VECTORS: 6}[reads], np.random.default_rng(1)
    model = TextEncoder(name, n_in, 7, width=0.05, rngs=nnx.Rngs(3))
    if reads == VECTORS:
        x = rng.standard_normal((3, n_in)).astype(np.float32)
    else:
        x = rng.integers(0, n_in + 1, (3, LENGTHS[reads])).astype(np.uint8 if reads == CHARACTERS else np.int32)
        x[1, 12:] = 0  # a short sentence
    for path, p in jax.tree_util.tree_flatten_with_path(nnx.state(model, nnx.Param))[0]:
        assert float(jnp.abs(p).max()) <= BOUND, path
        if p.size > 500:
            assert float(p.std()) == pytest.approx(BOUND / np.sqrt(3), rel=0.1), path
    # Larger weights than the initial ones, so that every layer matters.
    state = jax.tree.map(lambda p: 6 * p, nnx.state(model, nnx.Param))
    nnx.update(model, state)
    graph = nnx.graphdef(model)
    got = np.asarray(jax.jit(lambda p: nnx.merge(graph, p)(jnp.asarray(x)))(state))
    for row in range(3):
        want = by_steps(name, model, x[row], n_in)
        np.testing.assert_allclose(got[row], want, rtol=2e-4, atol=2e-5 * np.abs(want).max())


def test_the_first_step_has_no_hidden_bias():
    """A standard cell, with h_0 = 0 and c added at once, is another function."""
    model = FixedRNN(3, 4, rngs=nnx.Rngs(0))
    x = np.ones((1, 1, 3), np.float32)
    p = arrays(model)
    standard = threshold(x[0, 0] @ p["inputs"][0] + p["inputs"][1] + p["hidden"][1])
    got = np.asarray(model(jnp.asarray(x)))[0]
    assert np.abs(got - standard).max() > 1e-3
    np.testing.assert_allclose(got, threshold(x[0, 0] @ p["inputs"][0] + p["inputs"][1]), rtol=1e-5)
    first = FixedGRU(3, 4, rngs=nnx.Rngs(0))
    w, b = arrays(first)["inputs"]
    np.testing.assert_allclose(first(jnp.asarray(x))[0], np.tanh((x[0, 0] @ w + b)[8:]), rtol=1e-5)


def test_looking_up_equals_multiplying_and_so_does_its_gradient():
    layer = OneHotConvolution(5, 3, 2, rngs=nnx.Rngs(0))
    ids = jnp.asarray([[1, 5, 0, 2], [3, 3, 3, 0]], jnp.uint8)
    graph, params = nnx.split(layer)

    def by_product(p):
        x = jax.nn.one_hot(ids.astype(jnp.int32) - 1, 5)
        kernel, bias = p["kernel"][...], p["bias"][...]
        return sum(x[:, k : k + 3] @ kernel[k] for k in range(2)) + bias[None, None]

    looked_up, multiplied = (
        jax.grad(lambda p, f=f: (f(p) ** 2).sum())(params) for f in (lambda p: nnx.merge(graph, p)(ids), by_product)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), looked_up, multiplied)


def test_an_lstm_without_a_symbol_is_zero_not_nan():
    model = LSTM(OneHotConvolution(5, 16, 1, rngs=nnx.Rngs(0)), 4, init=uniform, mean=True, rngs=nnx.Rngs(0))
    ids = jnp.zeros((2, 3), jnp.int32)
    assert (np.asarray(model(ids, ids != 0)) == 0).all()


def test_dropout_hides_and_keeps_the_mean():
    model = TextEncoder("attributes", 4000, 5, dropout=0.25, rngs=nnx.Rngs(0))
    x = jnp.ones((2, 4000))
    kernel = jnp.ones((4000, 5)) / 4000
    model.visual.kernel[...], model.visual.bias[...] = kernel, jnp.zeros(5)
    keys = jax.random.split(jax.random.key(0), 2)
    hidden = np.asarray(model(x, keys))
    assert np.abs(hidden - 1).max() < 0.1 and (hidden != 1).all() and (hidden[0] != hidden[1]).all()
    np.testing.assert_allclose(model(x), np.ones((2, 5)), rtol=1e-5)
    np.testing.assert_allclose(model(x[1:], keys[1:])[0], hidden[1], rtol=3e-4)  # the draw of a row is its own
    assert np.abs(hidden[1] / hidden[0] - 1).max() > 3e-4
