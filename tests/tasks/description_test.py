"""DS-SJE and DA-SJE: loss and gradient by loops, batches of different classes, any number of devices, prototypes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from demjax.checks import UserError
from demjax.data import load
from demjax.data.batches import classes
from demjax.data.text import vocabulary as text
from demjax.data.text.captions import OF_CLASS, Caption, arrange
from demjax.mesh import DATA_AXIS, data_mesh
from demjax.tasks import description as module
from demjax.tasks.dem_text import dem_text
from demjax.tasks.description import description
from demjax.train.epoch import Plan, compile_epoch, drawn_batches, global_loss_and_grads, init_state
from demjax.train.run import one_row_a_group

SMALL = dict(n_classes=12, n_unseen=3, n_attributes=16, n_features=10, images_per_class=8)
TINY = dict(encoder="word_cnn_rnn", width=0.03)


@pytest.fixture(scope="module")
def dataset():
    return load("planted", planted=SMALL, descriptions="generated")


def on_mesh(task, params, batch, key, devices):
    """(loss, gradient) of one batch spread over some devices, as the engine computes them."""
    mesh, everywhere, split = data_mesh(devices), jax.P(), jax.P(DATA_AXIS)
    parts = {k: split if k in (*task.fields, "row") else everywhere for k in batch}
    run = jax.shard_map(
        lambda p, b: global_loss_and_grads(task, p, b, key),
        mesh=mesh,
        in_specs=(everywhere, parts),
        out_specs=everywhere,
    )
    with jax.default_matmul_precision("highest"):
        return jax.jit(run)(params, batch)


def batch_of(task, dataset, rows):
    table = one_row_a_group(classes(dataset))
    return {k: jnp.asarray(table[k][rows]) for k in task.fields} | dict(task.tables) | {"row": jnp.asarray(rows)}


def chosen(task, dataset, rows, key):
    """The image and the caption of each row, redrawn as the task says it draws."""
    t = task.tables
    images, captions = [], []
    for row in rows:
        keys = jax.random.split(jax.random.fold_in(key, row), 3)
        u = [float(jax.random.uniform(k)) for k in keys[:2]]
        c = int(one_row_a_group(classes(dataset))["label"][row])
        image = int(t["first_image"][c]) + min(int(u[0] * int(t["n_images"][c])), int(t["n_images"][c]) - 1)
        images.append(image)
        captions.append(int(t["first"][image]) + min(int(u[1] * int(t["count"][image])), int(t["count"][image]) - 1))
    return images, captions


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
    task = description(dataset, encoder="attributes", symmetric=symmetric, margin=0.7)
    params = jax.tree.map(lambda p: 3 * p, task.init(jax.random.key(1)))
    rows = np.arange(9) if devices != 8 else np.append(np.arange(9), [9] * 7)
    key = jax.random.key(5)
    losses, grads = on_mesh(task, params, batch_of(task, dataset, rows), key, jax.devices()[:devices])
    images, captions = chosen(task, dataset, range(9), key)
    assert dataset.labels[dataset.splits["trainval"]][0] in dataset.seen
    v = np.asarray(task.tables["features"], np.float64)[images]
    a = np.asarray(task.tables["inputs"], np.float64)[captions]
    kernel, bias = (np.asarray(params["visual"][k][...], np.float64) for k in ("kernel", "bias"))
    loss, by_text = by_loops(v, a @ kernel + bias, 0.7, symmetric)
    assert 0 < loss == pytest.approx(float(losses["loss"]), rel=1e-5)
    close = dict(rtol=1e-3, atol=1e-5 * np.abs(by_text).max())
    np.testing.assert_allclose(grads["visual"]["kernel"][...], a.T @ by_text, **close)
    np.testing.assert_allclose(grads["visual"]["bias"][...], by_text.sum(axis=0), **close)
    right = np.argmax(v @ (a @ kernel + bias).T, axis=1) == np.arange(9)
    assert float(losses["batch_top1"]) == pytest.approx(right.mean(), abs=1e-6)


def test_negatives_of_this_device_only_are_another_loss(dataset, monkeypatch):
    """The mutant that must fail: on 3 devices it sees 3 x 6 of the 72 pairs."""
    task = description(dataset, encoder="attributes")
    params, key, batch = task.init(jax.random.key(1)), jax.random.key(5), batch_of(task, dataset, np.arange(9))
    right = [float(on_mesh(task, params, batch, key, jax.devices()[:n])[0]["loss"]) for n in (1, 3)]
    assert right[0] == pytest.approx(right[1], rel=1e-6)
    monkeypatch.setattr(jax.lax, "all_gather", lambda x, axis, tiled: x)
    monkeypatch.setattr(jax.lax, "axis_index", lambda axis: 0)
    assert float(on_mesh(task, params, batch, key, jax.devices()[:3])[0]["loss"]) < 0.8 * right[0]


def test_training_is_the_same_on_one_three_and_eight_devices(dataset):
    task = description(dataset, encoder="attributes", dropout=0.1)
    rows = one_row_a_group(classes(dataset))
    ends = []
    for n in (1, 3, 8):
        mesh = data_mesh(jax.devices()[:n])
        state = init_state(task, optax.sgd(0.05), 0)
        epoch = compile_epoch(task, optax.sgd(0.05), mesh, Plan(9, 6, drawn=True))
        state, losses = epoch(state, {k: rows[k] for k in task.fields}, dict(task.tables))
        ends.append((state.params, losses["loss"]))
        assert losses["loss"].shape == (9,)
    for params, losses in ends[1:]:
        np.testing.assert_allclose(losses, ends[0][1], rtol=2e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), params, ends[0][0])


def test_every_batch_has_different_classes():
    orders = np.asarray(drawn_batches(jax.random.key(0), 9, 6, 8))
    assert orders.shape == (9, 8) and (orders[:, 6:] == 9).all()
    assert all(len(set(order[:6])) == 6 for order in orders.tolist())
    assert len({tuple(order) for order in orders.tolist()}) == 9
    counts = np.bincount(np.concatenate([drawn_batches(jax.random.key(s), 9, 6, 6).ravel() for s in range(60)]))
    np.testing.assert_allclose(counts / counts.mean(), np.ones(9), atol=0.12)


def test_an_image_and_one_of_its_own_captions(dataset):
    """Captions written for an image are never drawn for another one."""
    images = dataset.splits["trainval"]
    of_image = [Caption(int(dataset.labels[i]), int(i), f"image{i} says {n}") for i in images for n in range(2)]
    unseen = [Caption(int(c), OF_CLASS, f"unseen {c} says") for c in dataset.unseen]
    own = dataclasses.replace(dataset, descriptions=arrange([*of_image, *unseen], dataset.classes))
    task = description(own, **TINY)
    t, sentences = task.tables, own.descriptions.for_training(images, own.seen, own.classes).sentences
    drawn = set()
    for seed in range(40):
        found = chosen(task, own, range(9), jax.random.key(seed))
        for image, caption in zip(*found, strict=True):
            i = int(sentences[caption].split()[0].removeprefix("image"))
            np.testing.assert_array_equal(t["features"][image], own.features[i])
            drawn.add(sentences[caption])
    assert len(drawn) > 60  # of 9 x 6 x 2


def test_a_caption_without_characters_is_found(dataset, refused):
    texts = [Caption(c, OF_CLASS, f"class {c}") for c in range(len(dataset.classes))]
    texts[4] = Caption(4, OF_CLASS, "日本語")
    own = dataclasses.replace(dataset, descriptions=arrange(texts, dataset.classes))
    with refused(f"a caption of class {dataset.classes[4]}", "'日本語'", "no character of the alphabet", "words"):
        description(own, **TINY | {"encoder": "char_cnn"})


def test_it_learns(dataset):
    """On noisy features; all encoders learn in the table of configs/suites/cub_sje.py."""
    task, optimizer, rows = (
        description(dataset, encoder="attributes"),
        optax.adam(1e-2),
        one_row_a_group(classes(dataset)),
    )
    epoch = compile_epoch(task, optimizer, data_mesh(jax.devices()[:1]), Plan(9, 9, passes=30, drawn=True))
    _, losses = epoch(init_state(task, optimizer, 0), {k: rows[k] for k in task.fields}, dict(task.tables))
    assert np.mean(losses["loss"][-20:]) < 0.35 * np.mean(losses["loss"][:3])
    assert np.mean(losses["batch_top1"][-20:]) > 0.45  # of 9 classes


def test_prototypes_are_means_over_all_captions(dataset, monkeypatch):
    monkeypatch.setattr(module.sentences, "BLOCK", 37)  # several blocks, classes cut apart
    task = description(dataset, **TINY)
    params, ids = task.init(jax.random.key(0)), np.array([7, 2])
    got = task.gallery(params, dataset, ids)
    assert task.encode is not None
    for row, c in enumerate(ids):
        own = [dataset.descriptions.sentences[i] for i in dataset.descriptions.rows_of(np.array([c]))]
        encoded = np.concatenate(list(task.encode(params, own)))
        np.testing.assert_allclose(got[row], encoded.mean(axis=0), rtol=1e-4, atol=1e-6)


def test_captions_of_test_images_are_never_drawn(dataset):
    """Half of the training images have no caption of their own: they draw from the others of training only."""
    own = [i for i in dataset.splits["trainval"] if i % 2]
    tested = dataset.splits["test_seen"]
    every = [Caption(int(dataset.labels[i]), int(i), f"trained {i}") for i in own]
    every += [Caption(int(dataset.labels[i]), int(i), f"tested {i}") for i in tested]
    every += [Caption(int(c), OF_CLASS, f"trained class {c}") for c in dataset.unseen]
    described = dataclasses.replace(dataset, descriptions=arrange(every, dataset.classes))
    bare = sorted({int(c) for c in dataset.seen} - {int(dataset.labels[i]) for i in own})
    assert not bare
    for make, settings in ((description, TINY), (dem_text, dict(embedding=3, units=3, hidden=3))):
        t = make(described, **settings).tables
        read = text.numbered(["tested"], text.vocabulary(["tested trained"]))  # a word of no training caption
        assert read[0, 0] == text.FIRST_WORD and len(t["inputs"]) == len(own)
        assert np.max(t["first"] + t["count"]) == len(own)


def test_a_class_of_unknown_words_only_is_refused(dataset):
    every = [Caption(int(c), OF_CLASS, "a bird") for c in dataset.seen]
    every += [Caption(int(c), OF_CLASS, f"unheard{c}") for c in dataset.unseen]
    described = dataclasses.replace(dataset, descriptions=arrange(every, dataset.classes))
    with pytest.raises(UserError, match=f"no word of the descriptions of {dataset.classes[dataset.unseen[0]]}, "):
        description(described, **TINY)
    assert description(described, encoder="char_cnn", width=0.01).notes == ()


def test_words_of_unseen_classes_and_test_images_are_no_symbols(dataset):
    seen = [Caption(int(c), OF_CLASS, f"known{c} both") for c in dataset.seen]
    tested = int(dataset.splits["test_seen"][0])
    more = [Caption(int(dataset.labels[tested]), tested, "ofatestimage")]
    unseen = [Caption(int(c), OF_CLASS, f"both unheard{c}") for c in dataset.unseen]
    task = description(
        dataclasses.replace(dataset, descriptions=arrange([*seen, *more, *unseen], dataset.classes)), **TINY
    )
    assert task.notes == (
        "vocabulary: 10 words of the seen classes; of the unseen ones 50.0 % of the words (3 different ones) are "
        + "unknown: "
        + ", ".join(f"unheard{c}" for c in dataset.unseen),
    )
    assert int(np.max(task.tables["inputs"])) == 10


def test_word2vec(dataset, tmp_path, monkeypatch):
    vectors = tmp_path / "v.txt"
    rng = np.random.default_rng(0)
    table = rng.standard_normal((16, 5))
    vectors.write_text("".join(f"a{j + 1} {' '.join(map(str, row))}\n" for j, row in enumerate(table)))
    task = description(dataset, encoder="word2vec", word_vectors=str(vectors))
    told = dataset.descriptions.sentences[3].split(", ")
    mean = np.mean([table[int(w[1:]) - 1] for w in told], axis=0)
    np.testing.assert_allclose(task.tables["inputs"][3], mean, rtol=1e-5, atol=1e-6)
    assert task.notes[0].startswith("word vectors: 5 numbers each; 0.0 % of the words (0 different ones) are unknown")
    assert task.encode is not None and task.report is not None
    reads = []
    monkeypatch.setattr(module.sentences, "read_word_vectors", lambda path, words: reads.append(set(words)) or {})
    assert task.report(["a1 emu", "a2"]) == "33.3 % of the words (1 different ones) are unknown: emu"
    list(task.encode(task.init(jax.random.key(0)), ["a1 emu"]))
    assert reads == [{"emu"}]  # the file is read again for new words only
    assert task.fingerprint
    vectors.write_text(vectors.read_text().replace("a1 ", "b1 "))
    monkeypatch.undo()
    other = description(dataset, encoder="word2vec", word_vectors=str(vectors))
    assert other.fingerprint != task.fingerprint and "unknown: a1" in other.notes[0]
    vectors.write_text("zebra 1 2 3\n")
    with pytest.raises(UserError, match="no word of the descriptions has a word vector"):
        description(dataset, encoder="word2vec", word_vectors=str(vectors))


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
        description(dataset, **setting)


def test_without_captions(dataset):
    bare = dataclasses.replace(dataset, descriptions=None)
    with pytest.raises(UserError, match="task description reads sentences: set data.descriptions"):
        description(bare)
    assert description(bare, encoder="attributes").encode is None
