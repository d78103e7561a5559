"""Sentences as arrays: what may be trained on, what an encoder would not see, and word vectors."""

import dataclasses

import jax
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.data import load
from demjax.data.text import vocabulary as text
from demjax.data.text.captions import OF_CLASS, Caption, arrange
from demjax.tasks.zsl import sentences
from demjax.tasks.zsl.dem_text import dem_text
from demjax.tasks.zsl.ds_sje import ds_sje
from tests.tasks.planted import start

SMALL = dict(n_classes=12, n_unseen=3, n_attributes=16, n_features=10, images_per_class=8)
TINY = dict(encoder="word_cnn_rnn", width=0.03)


@pytest.fixture(scope="module")
def dataset():
    return load("planted", planted=SMALL, descriptions="generated")


def test_a_caption_without_characters_is_found(dataset, refused):
    texts = [Caption(c, OF_CLASS, f"class {c}") for c in range(len(dataset.classes))]
    texts[4] = Caption(4, OF_CLASS, "日本語")
    own = dataclasses.replace(dataset, descriptions=arrange(texts, dataset.classes))
    with refused(f"a caption of class {dataset.classes[4]}", "'日本語'", "no character of the alphabet", "words"):
        ds_sje(own.spec, **TINY | {"encoder": "char_cnn"}).constants(own)


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
    for make, settings in ((ds_sje, TINY), (dem_text, dict(embedding=3, units=3, hidden=3))):
        constants = make(described.spec, **settings).constants(described)
        read = text.numbered(["tested"], text.vocabulary(["tested trained"]))  # a word of no training caption
        assert read[0, 0] == text.FIRST_WORD and len(constants["inputs"]) == len(own)
        assert np.max(constants["first"] + constants["count"]) == len(own)
        assert "tested" not in described.spec.vocabulary


def test_a_class_of_unknown_words_only_is_refused(dataset):
    every = [Caption(int(c), OF_CLASS, "a bird") for c in dataset.seen]
    every += [Caption(int(c), OF_CLASS, f"unheard{c}") for c in dataset.unseen]
    described = dataclasses.replace(dataset, descriptions=arrange(every, dataset.classes))
    with pytest.raises(UserError, match=f"no word of the descriptions of {dataset.classes[dataset.unseen[0]]}, "):
        ds_sje(described.spec, **TINY).constants(described)
    characters = ds_sje(described.spec, encoder="char_cnn", width=0.01)
    assert characters.notes(described) == () and characters.constants(described)


def test_words_of_unseen_classes_and_test_images_are_no_symbols(dataset):
    seen = [Caption(int(c), OF_CLASS, f"known{c} both") for c in dataset.seen]
    tested = int(dataset.splits["test_seen"][0])
    more = [Caption(int(dataset.labels[tested]), tested, "ofatestimage")]
    unseen = [Caption(int(c), OF_CLASS, f"both unheard{c}") for c in dataset.unseen]
    described = dataclasses.replace(dataset, descriptions=arrange([*seen, *more, *unseen], dataset.classes))
    task = ds_sje(described.spec, **TINY)
    assert task.notes(described) == (
        "vocabulary: 10 words of the seen classes; of the unseen ones 50.0 % of the words (3 different ones) are "
        + "unknown: "
        + ", ".join(f"unheard{c}" for c in dataset.unseen),
    )
    assert int(np.max(task.constants(described)["inputs"])) == 10
    assert task.unread(["known0 emu"]) == "50.0 % of the words (1 different ones) are unknown: emu"


def test_word2vec(dataset, tmp_path, monkeypatch):
    vectors = tmp_path / "v.txt"
    rng = np.random.default_rng(0)
    table = rng.standard_normal((16, 5))
    vectors.write_text("".join(f"a{j + 1} {' '.join(map(str, row))}\n" for j, row in enumerate(table)))
    settings = dict(encoder="word2vec", word_vectors=str(vectors))
    task = ds_sje(dataset.spec, **settings)
    said = dataset.descriptions.sentences[3].split(", ")
    mean = np.mean([table[int(w[1:]) - 1] for w in said], axis=0)
    np.testing.assert_allclose(task.tokens["sentences"](dataset.descriptions.sentences)[3], mean, rtol=1e-5, atol=1e-6)
    variables, constants = start(task, dataset), task.constants(dataset)
    assert variables.params["visual"]["kernel"].shape == (5, 10) and constants["inputs"].shape[1] == 5
    assert task.notes(dataset)[0].startswith("word vectors: 5 numbers each; 0.0 % of the words (0 different ones) are")
    reads = []
    monkeypatch.setattr(sentences, "read_word_vectors", lambda path, words: reads.append(set(words)) or {})
    assert task.unread(["a1 emu", "a2"]) == "33.3 % of the words (1 different ones) are unknown: emu"
    task.tokens["sentences"](["a1 emu"])
    assert reads == [{"emu"}]  # the file is read again for new words only
    assert task.fingerprint(dataset)
    vectors.write_text(vectors.read_text().replace("a1 ", "b1 "))
    monkeypatch.undo()
    other = ds_sje(dataset.spec, **settings)
    assert other.fingerprint(dataset) != task.fingerprint(dataset) and "unknown: a1" in other.notes(dataset)[0]
    assert ds_sje(dataset.spec, **settings).init(jax.random.key(0)).params["visual"]["kernel"].shape == (5, 10)
    vectors.write_text("zebra 1 2 3\n")
    with pytest.raises(UserError, match="no word of the descriptions has a word vector"):
        ds_sje(dataset.spec, **settings).constants(dataset)
