"""Retrieval between text and images, and T1 by the number of captions, against loops."""

import numpy as np
import optax
import pytest

from demjax.checks import UserError
from demjax.data import load
from demjax.protocols import default_options
from demjax.tasks.zsl.dem import dem
from demjax.tasks.zsl.ds_sje import ds_sje
from demjax.train.embedder import TaskEmbedder, embed_sentences
from demjax.train.engine.state import init_state
from demjax.train.evaluate import Options, evaluate

PLANTED = dict(n_classes=12, n_unseen=4, n_attributes=12, n_features=8, images_per_class=9)
DATA = load("planted", planted=PLANTED, descriptions="generated")


def fresh(task, seed=0):
    return init_state(task, optax.identity(), seed, task.statistics(DATA)).variables


def with_captions(*n):
    return Options(settings=default_options() | {"captions": n})


@pytest.fixture(scope="module")
def found():
    task = ds_sje(DATA.spec, encoder="bow")
    variables = fresh(task, seed=2)
    return task, variables, evaluate(task, variables, DATA, with_captions(1, 1000)).metrics


def precision(scores, query_label, gallery_label, k):
    """Mean over classes of the share of right ones among the k best, by loops."""
    per_class: dict[int, list[float]] = {}
    for row, label in zip(scores, query_label, strict=True):
        best = np.argsort(-row, kind="stable")[:k]
        per_class.setdefault(int(label), []).append(np.mean(gallery_label[best] == label))
    return np.mean([np.mean(v) for v in per_class.values()])


def test_both_directions_equal_loops(found):
    task, variables, metrics = found
    embedder = TaskEmbedder(task, variables, DATA)
    ids = DATA.splits["test_unseen"]
    images, labels = DATA.features[ids].astype(np.float64), DATA.labels[ids]
    prototypes = embedder.embed("class", "unseen").astype(np.float64)
    for k in (1, 5, 10):
        want = precision(prototypes @ images.T, DATA.unseen, labels, k)
        assert metrics[f"text_to_image/precision@{k}"] == pytest.approx(want, abs=1e-9)
    rows = DATA.descriptions.rows_of(DATA.unseen)
    vectors = embedder.embed("text", "unseen").astype(float)
    for k in (1, 50):
        want = precision(images @ vectors.T, labels, DATA.descriptions.label[rows], k)
        assert metrics[f"image_to_text/precision@{k}"] == pytest.approx(want, abs=1e-2)  # near ties of float32
    assert "text_to_image/precision@50" not in metrics  # 36 images


def test_all_captions_give_the_usual_accuracy_and_one_gives_less(found):
    _, _, metrics = found
    assert metrics["captions/1000/top1"] == pytest.approx(metrics["zsl/top1"], abs=1e-9)

    def with_one(seed):  # by loops: one caption a class, drawn as the protocol says
        task, variables, _ = found
        rng, ids = np.random.default_rng(seed), DATA.splits["test_unseen"]
        accuracies = []
        for _ in range(5):
            vectors = []
            for c in DATA.unseen:
                row = rng.permutation(DATA.descriptions.rows_of(np.array([c])))[0]
                vectors.append(next(embed_sentences(task, variables, [DATA.descriptions.sentences[row]]))[0])
            scores = DATA.features[ids] @ np.array(vectors).T
            right = DATA.unseen[scores.argmax(axis=1)] == DATA.labels[ids]
            accuracies.append(np.mean([right[DATA.labels[ids] == c].mean() for c in DATA.unseen]))
        return np.mean(accuracies)

    assert metrics["captions/1/top1"] == pytest.approx(with_one(1), abs=1e-6)
    assert metrics["captions/1/top1"] != pytest.approx(metrics["zsl/top1"], abs=1e-6)


def test_a_task_without_sentences(found):
    task = dem(DATA.spec, hidden=4)
    with pytest.raises(UserError, match="evaluate.captions is .1,.: no protocol of task dem reads it"):
        evaluate(task, fresh(task), DATA, with_captions(1))
    with pytest.raises(UserError, match="k"):
        evaluate(*found[:2], DATA, with_captions(0))
