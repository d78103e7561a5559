"""Retrieval between class texts, captions and images of unseen classes, and how many captions a class needs.

    text_to_image/precision@k   a class ranks all unseen test images; the share of its images among the first k
    image_to_text/precision@k   an image ranks all captions of the unseen classes
    captions/n/top1             T1 where a class is the mean of n of its captions, drawn at random

All are means over the unseen classes; k goes up to what is there.

Reference: Reed, Akata, Lee & Schiele 2016, section 4.3; their "AP@50" is the precision at 50, no average precision.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from demjax import metrics
from demjax.checks import UserError
from demjax.protocols.protocol import Column, Embedder, Options, Protocol, Result
from demjax.protocols.zsl import count, percent

PRECISION_AT = (1, 5, 10, 50)
DRAWS = 5  # of the captions, for T1 with n of them
HEADINGS = (
    ("text_to_image/", "class text among images of unseen classes, per class"),
    ("image_to_text/", "images among captions of unseen classes, per class"),
    ("captions/", "T1 with some random captions of each class"),
)


def _evaluate(embedder: Embedder, options: Options) -> Result:
    data = embedder.dataset
    images, labels = embedder.embed("image", "test_unseen"), data.labels[data.splits["test_unseen"]]
    classes = embedder.embed("class", "all")[data.unseen]
    result = _precision(embedder, classes, data.unseen, images, labels, "text_to_image")
    if "text" not in embedder.can_embed or not data.spec.has_captions:
        return Result(result)
    captions = embedder.embed("text", "unseen")
    label = data.items("text", data.ids("text", "unseen"), ("label",))["label"]
    result |= _precision(embedder, images, labels, captions, label, "image_to_text")
    ns = options["captions"]
    return Result(result | {f"captions/{n}/top1": _with_captions(embedder, images, captions, label, n) for n in ns})


def _precision(embedder, queries, query_label, gallery, gallery_label, name: str) -> dict[str, float]:
    embedder.stop_point()
    ks = [k for k in PRECISION_AT if k <= len(gallery)]
    ids = np.asarray(embedder.search(queries, gallery, ks[-1]).ids)
    counts = metrics.precision_counts(gallery_label[ids], query_label, len(embedder.dataset.classes), ks)
    return {f"{name}/precision@{k}": float(p) for k, p in zip(ks, metrics.precision_at_k(counts), strict=True)}


def _with_captions(embedder: Embedder, images, captions, label: np.ndarray, n: int) -> float:
    """T1 where a class is the mean of n of its captions, drawn without replacement; of all where it has fewer."""
    data, rng, accuracies = embedder.dataset, np.random.default_rng(n), []
    for _ in range(DRAWS):
        embedder.stop_point()
        chosen = [rng.permutation(np.flatnonzero(label == c))[:n] for c in data.unseen]
        prototypes = np.stack([captions[rows].mean(axis=0) for rows in chosen])
        ids = np.asarray(embedder.search(images, prototypes, 1).ids[:, 0])
        accuracies.append(metrics.per_class_accuracy(count(embedder, "test_unseen", data.unseen[ids])))
    return float(np.mean(accuracies))


def _check(options: Options, task: Any, dataset: Any) -> None:
    if ns := tuple(options["captions"]):
        metrics.check_ks(ns)
        if "text" not in task.embed or not dataset.spec.has_captions:
            raise UserError(f"evaluate.captions is {ns}: task {task.name} reads no sentences here")


def _lines(metrics: Mapping[str, Any], details: Mapping[str, Any]) -> list[str]:
    """Retrieval in both directions, and T1 by the number of captions, one line each."""
    del details
    lines = []
    for prefix, label in HEADINGS:
        values = {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}
        shown = ", ".join(f"{k.removesuffix('/top1')}: {percent(v)}" for k, v in values.items())
        lines += [f"{label}: {shown}"] if values else []
    return lines


TEXT_RETRIEVAL = Protocol(
    name="text_retrieval",
    columns=(
        Column("text_to_image/precision@50", "text to image P@50"),
        Column("image_to_text/precision@1", "image to text P@1"),
    ),
    evaluate=_evaluate,
    options={"captions": ()},
    check=_check,
    corrects=False,
    lines=_lines,
)
