from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import skew

from demjax.checks import UserError
from demjax.data.sources.planted import plant
from demjax.protocols import default_options
from demjax.search import Score
from demjax.tasks import Variables
from demjax.tasks.zsl.compatibility import latem
from demjax.tasks.zsl.dem import dem
from demjax.train.config import default_config, quick
from demjax.train.embedder import TaskEmbedder
from demjax.train.engine.state import init_state
from demjax.train.evaluate import Options, evaluate
from demjax.train.experiment import build
from demjax.train.fit import train_and_evaluate

DATASET = plant(n_classes=15, n_unseen=6, n_attributes=6, n_features=20, images_per_class=11)


def fresh(task, dataset=DATASET, seed=0):
    return init_state(task, optax.identity(), seed, task.statistics(dataset)).variables


def classes_of(task, variables, dataset=DATASET):
    return TaskEmbedder(task, variables, dataset).embed("class", "all")


def with_classes(task, embed):
    return replace(task, embed={**task.embed, "class": embed})


def by_loops(gallery, score):
    """All metrics in float64, image by image."""

    def predict(x, candidates):
        x, g = x.astype(np.float64), gallery[candidates].astype(np.float64)
        if score == "cosine":
            values = [x @ p / (np.linalg.norm(x) * np.linalg.norm(p)) for p in g]
        else:
            values = [-np.linalg.norm(x - p) for p in g]
        return candidates[int(np.argmax(values))]

    def answers(split, candidates):
        ids = DATASET.splits[split]
        return np.array([predict(DATASET.features[i], candidates) for i in ids]), DATASET.labels[ids]

    def accuracy(split, candidates):
        predicted, truth = answers(split, candidates)
        return np.mean([np.mean(predicted[truth == c] == c) for c in sorted(set(truth))])

    everyone = np.arange(15)
    predicted, truth = answers("test_unseen", DATASET.unseen)
    n1 = [int((predicted == c).sum()) for c in DATASET.unseen]
    u, s = accuracy("test_unseen", everyone), accuracy("test_seen", everyone)
    return {
        "zsl/top1": accuracy("test_unseen", DATASET.unseen),
        "zsl/micro": (predicted == truth).mean(),
        "gzsl/unseen": u,
        "gzsl/seen": s,
        "gzsl/harmonic": 2 * u * s / (u + s) if u + s else 0,
        "hubness/n1_skewness": skew(n1),
    }, n1


@pytest.mark.parametrize("score", ["euclidean", "cosine"])
@pytest.mark.parametrize("query_batch", [7, 4096])
def test_equals_loops(score, query_batch):
    task = dem(DATASET.spec, hidden=32, score=score)
    variables = fresh(task, seed=1)
    found = evaluate(task, variables, DATASET, Options(query_batch))
    expected, n1 = by_loops(classes_of(task, variables), score)
    for name, value in expected.items():
        assert found.metrics[name] == pytest.approx(value, abs=1e-6), name
    details = found.details["zsl"]
    assert list(details["n1"].values()) == n1
    assert list(details["n1"]) == [DATASET.classes[c] for c in DATASET.unseen]
    assert np.mean(list(details["unseen_accuracy"].values())) == pytest.approx(expected["zsl/top1"])


def test_true_prototypes_reach_the_top():
    """With the class means of the test images themselves as gallery, nearly all images are right."""
    means = np.stack([DATASET.features[DATASET.labels == c].mean(0) for c in range(15)])
    task = with_classes(dem(DATASET.spec, hidden=4, score="euclidean"), lambda variables, items: jnp.array(means))
    assert evaluate(task, Variables({}), DATASET).metrics["zsl/top1"] > 0.7


def test_a_constant_gallery_is_chance():
    """Everything is equally near: the lowest id wins, one class is right."""
    task = with_classes(dem(DATASET.spec, hidden=4), lambda variables, items: jnp.ones((15, 20)))
    found = evaluate(task, Variables({}), DATASET)
    assert found.metrics["zsl/top1"] == pytest.approx(1 / 6)
    assert found.details["zsl"]["n1"][DATASET.classes[DATASET.unseen[0]]] == len(DATASET.splits["test_unseen"])


def test_embedding_does_not_depend_on_the_default_precision():
    """JAX rounds products to TF32 or bfloat16 by default on GPUs and TPUs; a reported number must not."""
    task, seen = dem(DATASET.spec, hidden=4), []

    def classes(variables, items):
        seen.append(jax.config.jax_default_matmul_precision)
        return task.embed["class"](variables, items)

    with jax.default_matmul_precision("bfloat16"):
        evaluate(with_classes(task, classes), fresh(task), DATASET)
    assert seen == ["highest"]


@pytest.mark.parametrize("view", [DATASET, DATASET.validation_view()], ids=["test", "validation"])
def test_columns_and_objectives_are_metrics_of_their_protocol(view):
    """Tables look names up, and `select` does before anything has run."""
    task = dem(view.spec, hidden=4)
    metrics = evaluate(task, fresh(task, view), view).metrics
    for protocol in task.protocols:
        assert {column.metric for column in protocol.columns} <= metrics.keys()
        best = {m for m in protocol.objectives if "/best_" in m}
        assert set(protocol.objectives) - (set() if view.is_validation_view else best) <= metrics.keys()
        assert set(protocol.tuned.values()) <= metrics.keys() or not view.is_validation_view


def scores_of(gallery, score):
    """Every score in float64."""
    x, g = DATASET.features.astype(np.float64), gallery.astype(np.float64)
    if score == "cosine":
        return (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (g / np.linalg.norm(g, axis=1, keepdims=True)).T
    return -np.sqrt(((x[:, None] - g[None]) ** 2).sum(-1))


def accuracies(scores, penalty):
    """U and S with a penalty on seen classes, image by image."""
    taken = scores - penalty * np.isin(np.arange(15), DATASET.seen)
    result = []
    for split in ("test_unseen", "test_seen"):
        ids = DATASET.splits[split]
        predicted, truth = taken[ids].argmax(axis=1), DATASET.labels[ids]
        result.append(np.mean([np.mean(predicted[truth == c] == c) for c in set(truth)]))
    return result


@pytest.mark.parametrize("score", ["euclidean", "cosine"])
def test_calibration_equals_brute_force(score):
    task = dem(DATASET.spec, hidden=16, score=score)
    variables = fresh(task)
    gallery = classes_of(task, variables)
    every = scores_of(gallery, score)
    unit = np.sqrt(np.mean(np.var(every[DATASET.splits["trainval"]], axis=1)))
    for penalty in (-0.7, 0.0, 0.31, 2.5):
        found = evaluate(task, variables, DATASET, Options(tuned={"": {"penalty": penalty}})).metrics
        u, s = accuracies(every, penalty * unit)
        assert found["gzsl_calibrated/unseen"] == pytest.approx(u)
        assert found["gzsl_calibrated/seen"] == pytest.approx(s)
        assert found["gzsl_calibrated/harmonic"] == pytest.approx(2 * u * s / (u + s) if u + s else 0)
    assert "gzsl/best_penalty" not in found  # the test set is no place to look for it


def test_on_the_validation_view_the_best_penalty_is_the_best():
    view = DATASET.validation_view()
    task = dem(view.spec, hidden=16)
    variables = fresh(task, view)
    found = evaluate(task, variables, view).metrics
    again = evaluate(task, variables, view, Options(tuned={"": {"penalty": found["gzsl/best_penalty"]}})).metrics
    assert again["gzsl_calibrated/harmonic"] == pytest.approx(found["gzsl/best_harmonic"])
    for penalty in np.linspace(-3, 3, 25):
        other = evaluate(task, variables, view, Options(tuned={"": {"penalty": float(penalty)}})).metrics
        assert other["gzsl_calibrated/harmonic"] <= found["gzsl/best_harmonic"] + 1e-9


@pytest.mark.parametrize("query_batch", (4096, 7))
def test_correction_is_fitted_on_training_images_only(query_batch):
    """CSLS by the formula; an answer does not change when other test images do."""
    task = dem(DATASET.spec, hidden=16, score="cosine")
    variables = fresh(task)
    gallery = classes_of(task, variables)
    s = scores_of(gallery, "cosine")
    bank = np.sort(s[DATASET.splits["trainval"]], axis=0)[-10:].mean(axis=0)
    corrected = 2 * s - np.sort(s, axis=1)[:, -10:].mean(axis=1)[:, None] - bank[None]
    found = evaluate(task, variables, DATASET, Options(query_batch, correction="csls")).metrics
    u, seen = accuracies(corrected, 0.0)
    assert found["corrected/gzsl/unseen"] == pytest.approx(u) and found["corrected/gzsl/seen"] == pytest.approx(seen)
    ids = DATASET.splits["test_unseen"]
    among = DATASET.unseen[corrected[ids][:, DATASET.unseen].argmax(axis=1)]
    truth = DATASET.labels[ids]
    assert found["corrected/zsl/top1"] == pytest.approx(np.mean([np.mean(among[truth == c] == c) for c in set(truth)]))


@pytest.mark.parametrize("query_batch", (4096, 7))
def test_correction_of_several_vectors_an_image(query_batch):
    """LatEm: the best of three maps is the score, among the classes and among the bank."""
    task = latem(DATASET.spec, components=3)
    variables = fresh(task)
    queries = np.asarray(task.embed["image"](variables, {"features": jnp.asarray(DATASET.features)}), np.float64)
    s = (queries @ DATASET.class_vectors("unit").T.astype(np.float64)).max(axis=1)
    bank = np.sort(s[DATASET.splits["trainval"]], axis=0)[-10:].mean(axis=0)
    corrected = 2 * s - np.sort(s, axis=1)[:, -10:].mean(axis=1)[:, None] - bank[None]
    found = evaluate(task, variables, DATASET, Options(query_batch, correction="csls")).metrics
    u, seen = accuracies(corrected, 0.0)
    assert found["corrected/gzsl/unseen"] == pytest.approx(u) and found["corrected/gzsl/seen"] == pytest.approx(seen)
    with pytest.raises(UserError, match="'nicdm' is for euclidean scores"):
        evaluate(task, variables, DATASET, Options(correction="nicdm"))
    with pytest.raises(UserError, match="'dsl' is for one vector an image, task latem has 3: expected local_scaling"):
        euclidean = replace(task, score=Score("euclidean", vectors=3))
        evaluate(euclidean, variables, DATASET, Options(correction="dsl"))


def test_a_correction_that_does_not_fit_is_found_before_the_training():
    config = default_config()
    quick(config)
    config.evaluate.correction = "nicdm"
    with pytest.raises(UserError, match="'nicdm' is for euclidean scores, task dem answers by cosine"):
        build(config)


@pytest.mark.parametrize(
    ("hits", "told"), [(("a",), "whole number"), ((1.5,), "whole number"), ((1, 1), "once"), ((7,), "6 unseen classes")]
)
def test_hits_that_do_not_fit(hits, told):
    task = dem(DATASET.spec, hidden=16)
    with pytest.raises(UserError, match=told):
        evaluate(task, fresh(task), DATASET, Options(settings=default_options() | {"hits": hits}))


@pytest.mark.parametrize(("score", "correction"), [("cosine", "csls"), ("euclidean", "nicdm")])
def test_the_correction_that_fits_the_score(score, correction):
    task = dem(DATASET.spec, hidden=16, score=score)
    variables = fresh(task)
    auto, named = (evaluate(task, variables, DATASET, Options(correction=name)) for name in ("auto", correction))
    assert auto == named and "corrected/zsl/top1" in auto.metrics


def test_a_correction_must_fit_the_score():
    task = dem(DATASET.spec, hidden=16, score="euclidean")
    variables = fresh(task)
    with pytest.raises(
        UserError, match="'csls' is for cosine or dot scores, task dem answers by euclidean: expected local_sc"
    ):
        evaluate(task, variables, DATASET, Options(correction="csls"))
    with pytest.raises(UserError, match="did you mean 'csls'"):
        evaluate(task, variables, DATASET, Options(correction="cslss"))


def test_hits_are_told(tmp_path):
    config = default_config()
    quick(config)
    config.evaluate.hits, config.log.tensorboard = (1, 3), False
    said = []
    report = train_and_evaluate(config, tmp_path, devices=jax.devices()[:1], say=said.append)
    table = next(line for line in said if "unseen images among" in line)
    assert f"unseen classes: hit@1 {100 * report['metrics']['zsl/micro']:.1f}, hit@3" in table
    assert report["metrics"]["gzsl/hit@1"] == pytest.approx(report["metrics"]["gzsl/unseen_micro"])
