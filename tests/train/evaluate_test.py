from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import skew

from demjax.checks import UserError
from demjax.data.sources import planted as synthetic
from demjax.tasks.compatibility import latem
from demjax.tasks.dem import dem
from demjax.train.config import default_config, quick
from demjax.train.evaluate import METRICS, Options, evaluate
from demjax.train.loop import train_and_evaluate
from demjax.train.run import build

DATASET = synthetic.plant(n_classes=15, n_unseen=6, n_attributes=6, n_features=20, images_per_class=11)


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
    task = dem(DATASET, hidden=32, score=score)
    params = task.init(jax.random.key(1))
    found = evaluate(task, params, DATASET, Options(query_batch))
    expected, n1 = by_loops(np.asarray(task.gallery(params, DATASET, np.arange(15))), score)
    for name, value in expected.items():
        assert found.metrics[name] == pytest.approx(value, abs=1e-6), name
    assert list(found.n1.values()) == n1
    assert list(found.n1) == [DATASET.classes[c] for c in DATASET.unseen]
    assert np.mean(list(found.unseen_accuracy.values())) == pytest.approx(expected["zsl/top1"])


def test_true_prototypes_reach_the_top():
    """With the class means of the test images themselves as gallery, nearly all images are right."""
    import dataclasses

    means = np.stack([DATASET.features[DATASET.labels == c].mean(0) for c in range(15)])
    task = dataclasses.replace(
        dem(DATASET, hidden=4, score="euclidean"), gallery=lambda p, d, ids: jnp.array(means[ids])
    )
    assert evaluate(task, None, DATASET).metrics["zsl/top1"] > 0.7


def test_a_constant_gallery_is_chance():
    """Everything is equally near: the lowest id wins, one class is right."""
    import dataclasses

    task = dataclasses.replace(dem(DATASET, hidden=4), gallery=lambda p, d, ids: jnp.ones((len(ids), 20)))
    found = evaluate(task, None, DATASET)
    assert found.metrics["zsl/top1"] == pytest.approx(1 / 6)
    assert found.n1[DATASET.classes[DATASET.unseen[0]]] == len(DATASET.splits["test_unseen"])


def test_embedding_does_not_depend_on_the_default_precision():
    """JAX rounds products to TF32 or bfloat16 by default on GPUs and TPUs; a reported number must not."""
    import dataclasses

    task, seen = dem(DATASET, hidden=4), []

    def gallery(params, dataset, ids):
        seen.append(jax.config.jax_default_matmul_precision)
        return task.gallery(params, dataset, ids)

    with jax.default_matmul_precision("bfloat16"):
        evaluate(dataclasses.replace(task, gallery=gallery), task.init(jax.random.key(0)), DATASET)
    assert seen == ["highest"]


def test_the_listed_metrics_are_those_of_the_protocols():
    """`select` looks a name up before anything has run."""
    config = default_config()
    quick(config)
    built = build(config, jax.devices()[:1])
    params = built.task.init(jax.random.key(0))
    assert set(evaluate(built.task, params, built.dataset).metrics) == set(METRICS)


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
    task = dem(DATASET, hidden=16, score=score)
    params = task.init(jax.random.key(0))
    gallery = np.asarray(task.gallery(params, DATASET, np.arange(15)))
    every = scores_of(gallery, score)
    unit = np.sqrt(np.mean(np.var(every[DATASET.splits["trainval"]], axis=1)))
    for penalty in (-0.7, 0.0, 0.31, 2.5):
        found = evaluate(task, params, DATASET, Options(penalty={"": penalty})).metrics
        u, s = accuracies(every, penalty * unit)
        assert found["gzsl_calibrated/unseen"] == pytest.approx(u)
        assert found["gzsl_calibrated/seen"] == pytest.approx(s)
        assert found["gzsl_calibrated/harmonic"] == pytest.approx(2 * u * s / (u + s) if u + s else 0)
    assert "gzsl/best_penalty" not in found  # the test set is no place to look for it


def test_on_the_validation_view_the_best_penalty_is_the_best():
    view = DATASET.validation_view()
    task = dem(view, hidden=16)
    params = task.init(jax.random.key(0))
    found = evaluate(task, params, view).metrics
    again = evaluate(task, params, view, Options(penalty={"": found["gzsl/best_penalty"]})).metrics
    assert again["gzsl_calibrated/harmonic"] == pytest.approx(found["gzsl/best_harmonic"])
    for penalty in np.linspace(-3, 3, 25):
        other = evaluate(task, params, view, Options(penalty={"": float(penalty)})).metrics
        assert other["gzsl_calibrated/harmonic"] <= found["gzsl/best_harmonic"] + 1e-9


@pytest.mark.parametrize("query_batch", (4096, 7))
def test_correction_is_fitted_on_training_images_only(query_batch):
    """CSLS by the formula; an answer does not change when other test images do."""
    task = dem(DATASET, hidden=16, score="cosine")
    params = task.init(jax.random.key(0))
    gallery = np.asarray(task.gallery(params, DATASET, np.arange(15)))
    s = scores_of(gallery, "cosine")
    bank = np.sort(s[DATASET.splits["trainval"]], axis=0)[-10:].mean(axis=0)
    corrected = 2 * s - np.sort(s, axis=1)[:, -10:].mean(axis=1)[:, None] - bank[None]
    found = evaluate(task, params, DATASET, Options(query_batch, correction="csls")).metrics
    u, seen = accuracies(corrected, 0.0)
    assert found["corrected/gzsl/unseen"] == pytest.approx(u) and found["corrected/gzsl/seen"] == pytest.approx(seen)
    ids = DATASET.splits["test_unseen"]
    among = DATASET.unseen[corrected[ids][:, DATASET.unseen].argmax(axis=1)]
    truth = DATASET.labels[ids]
    assert found["corrected/zsl/top1"] == pytest.approx(np.mean([np.mean(among[truth == c] == c) for c in set(truth)]))


@pytest.mark.parametrize("query_batch", (4096, 7))
def test_correction_of_several_vectors_an_image(query_batch):
    """LatEm: the best of three maps is the score, among the classes and among the bank."""
    task = latem(DATASET, components=3)
    params = task.init(jax.random.key(0))
    queries = np.asarray(task.queries(params, jnp.asarray(DATASET.features)), np.float64)
    s = (queries @ DATASET.class_vectors("unit").T.astype(np.float64)).max(axis=1)
    bank = np.sort(s[DATASET.splits["trainval"]], axis=0)[-10:].mean(axis=0)
    corrected = 2 * s - np.sort(s, axis=1)[:, -10:].mean(axis=1)[:, None] - bank[None]
    found = evaluate(task, params, DATASET, Options(query_batch, correction="csls")).metrics
    u, seen = accuracies(corrected, 0.0)
    assert found["corrected/gzsl/unseen"] == pytest.approx(u) and found["corrected/gzsl/seen"] == pytest.approx(seen)
    with pytest.raises(UserError, match="'nicdm' is for euclidean scores"):
        evaluate(task, params, DATASET, Options(correction="nicdm"))
    with pytest.raises(UserError, match="'dsl' is for one vector an image, task latem has 3: expected local_scaling"):
        evaluate(replace(task, score="euclidean"), params, DATASET, Options(correction="dsl"))


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
    task = dem(DATASET, hidden=16)
    with pytest.raises(UserError, match=told):
        evaluate(task, task.init(jax.random.key(0)), DATASET, Options(hits=hits))


@pytest.mark.parametrize(("score", "correction"), [("cosine", "csls"), ("euclidean", "nicdm")])
def test_the_correction_that_fits_the_score(score, correction):
    task = dem(DATASET, hidden=16, score=score)
    params = task.init(jax.random.key(0))
    auto, named = (evaluate(task, params, DATASET, Options(correction=name)) for name in ("auto", correction))
    assert auto == named and "corrected/zsl/top1" in auto.metrics


def test_a_correction_must_fit_the_score():
    task = dem(DATASET, hidden=16, score="euclidean")
    params = task.init(jax.random.key(0))
    with pytest.raises(
        UserError, match="'csls' is for cosine or dot scores, task dem answers by euclidean: expected local_sc"
    ):
        evaluate(task, params, DATASET, Options(correction="csls"))
    with pytest.raises(UserError, match="did you mean 'csls'"):
        evaluate(task, params, DATASET, Options(correction="cslss"))


def test_hits_are_told(tmp_path):
    config = default_config()
    quick(config)
    config.evaluate.hits, config.log.tensorboard = (1, 3), False
    said = []
    report = train_and_evaluate(config, tmp_path, devices=jax.devices()[:1], say=said.append)
    table = next(line for line in said if "unseen images among" in line)
    assert f"unseen classes: hit@1 {100 * report['metrics']['zsl/micro']:.1f}, hit@3" in table
    assert report["metrics"]["gzsl/hit@1"] == pytest.approx(report["metrics"]["gzsl/unseen_micro"])
