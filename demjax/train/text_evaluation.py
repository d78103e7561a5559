"""Evaluation of systems that read sentences: retrieval in both directions, and how many captions a class needs."""

import jax.numpy as jnp
import numpy as np

from demjax import metrics
from demjax.search import nearest
from demjax.train.answers import Answers

PRECISION_AT = (1, 5, 10, 50)
DRAWS = 5  # of the captions, for T1 with n of them


def retrieval_metrics(answers: Answers) -> dict[str, float]:
    """Precision@k among the unseen test classes, per class; k up to what is there.

    text_to_image: a class prototype ranks all unseen test images; at 50 the "AP@50" of Reed et al. 2016, which is no
    average precision. image_to_text: an image ranks all captions of the unseen classes. With `evaluate.captions` also
    T1 with n random captions of each class, the mean of DRAWS draws.
    """
    data, task, params = answers.dataset, answers.task, answers.params
    labels, images = data.labels[data.splits["test_unseen"]], answers.queries("test_unseen")
    found = _precision(answers, answers.gallery[data.unseen], data.unseen, images, labels, "text_to_image")
    if task.encode is None or data.descriptions is None:
        return found
    rows = data.descriptions.rows_of(data.unseen)
    blocks = []
    for block in task.encode(params, [data.descriptions.sentences[i] for i in rows]):
        answers.check()
        blocks.append(block)
    encoded = jnp.concatenate(blocks)
    label = data.descriptions.label[rows]
    found |= _precision(answers, images, labels, encoded, label, "image_to_text")
    return found | {f"captions/{n}/top1": _with_captions(answers, encoded, label, n) for n in answers.options.captions}


def _precision(answers, queries, query_label, gallery, gallery_label, name: str) -> dict[str, float]:
    answers.check()
    ks = [k for k in PRECISION_AT if k <= len(gallery)]
    ids = np.asarray(nearest(queries, gallery, k=ks[-1], score=answers.score, mesh=answers.mesh).ids)
    counts = metrics.precision_counts(gallery_label[ids], query_label, len(answers.dataset.classes), ks)
    return {f"{name}/precision@{k}": float(p) for k, p in zip(ks, metrics.precision_at_k(counts), strict=True)}


def _with_captions(answers: Answers, encoded, label: np.ndarray, n: int) -> float:
    """T1 where a class is the mean of n of its captions, drawn without replacement; of all where it has fewer."""
    data, rng, accuracies = answers.dataset, np.random.default_rng(n), []
    for _ in range(DRAWS):
        answers.check()
        chosen = [rng.permutation(np.flatnonzero(label == c))[:n] for c in data.unseen]
        prototypes = jnp.stack([encoded[rows].mean(axis=0) for rows in chosen])
        found = nearest(answers.queries("test_unseen"), prototypes, k=1, score=answers.score, mesh=answers.mesh)
        ids = np.asarray(found.ids[:, 0])
        accuracies.append(metrics.per_class_accuracy(answers.count("test_unseen", data.unseen[ids])))
    return float(np.mean(accuracies))
