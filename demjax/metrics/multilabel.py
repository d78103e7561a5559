"""Multi-label zero-shot: precision, recall and F1 of the K best labels, filters of images, the named protocols.

Labels are 1 (positive), -1 (verified negative) and 0 (unverified). For F1 at K both 0 and -1 are wrong answers; for
mAP 0 is left out or counts as negative, by the protocol. State protocol and filter with every number.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from demjax.checks import UserError, choose
from demjax.metrics.average_precision import ap_counts, average_precision, mean_average_precision
from demjax.metrics.inputs import Labels, Mask, Scores, check_ks, kept_rows, refuse_rows

IMAGE_FILTERS = {
    "all": "every image",
    "with_positives": "images with a positive among the evaluated labels, decided for each label space separately",
}
ROWS = 512  # in one piece of work: 2 MB of 1,006 float32 scores stay in the cache
PASSES = 1 / 3  # argmax passes over a row per label; beyond, one sort is quicker (measured at 81 labels)


class Protocol(NamedTuple):
    """How a code base computes mAP and F1: entries ranked, labels without positives, images kept."""

    entries: str
    empty: str
    images: str


PROTOCOLS = {
    "lesa": Protocol("verified", "kept", "all"),
    "ml2p": Protocol("verified", "kept", "all"),
    "biam_nus_wide": Protocol("verified", "kept", "all"),
    "biam_open_images": Protocol("verified", "annotated", "with_positives"),
    "sdl": Protocol("all", "kept", "with_positives"),
}


class TopKCounts(NamedTuple):
    """Per label and K: chosen cells and those of them that are positive; positives; images. Blocks of images add up."""

    right: Integer[np.ndarray, "k c"]
    chosen: Integer[np.ndarray, "k c"]
    positives: Integer[np.ndarray, " c"]
    images: Integer[np.ndarray, ""]


class F1AtK(NamedTuple):
    """Precision, recall and F1 for each K, in [0, 1]."""

    precision: Float[np.ndarray, " k"]
    recall: Float[np.ndarray, " k"]
    f1: Float[np.ndarray, " k"]


def image_filter(labels: Labels, images: str = "all") -> Bool[np.ndarray, " n"]:
    """The mask of the images a protocol keeps, from the labels of the evaluated label space (seen, unseen or all).

    "all": LESA, ML2P, BiAM on NUS-WIDE. "with_positives": BiAM on Open Images, SDL. A mask for both mAP and F1.
    """
    choose("image filter", images, IMAGE_FILTERS)
    marks = np.asarray(labels)
    return (marks == 1).any(axis=1) if images == "with_positives" else np.ones(len(marks), bool)


def _by_sort(scores: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def _by_passes(scores: np.ndarray, k: int) -> np.ndarray:
    """k times the greatest, taken away: for few k quicker than a partition, and ties need no second look."""
    left, rows = np.array(scores), np.arange(len(scores))
    ids = np.empty((len(scores), k), np.int64)
    for i in range(k):
        ids[:, i] = left.argmax(axis=1)
        last = left[rows, ids[:, i]]
        left[rows, ids[:, i]] = -np.inf
    spent = last == -np.inf  # what was taken away looks like a score of -inf
    if spent.any():
        ids[spent] = _by_sort(scores[spent], k)
    return ids


def top_labels(scores: Scores, k: int) -> Integer[np.ndarray, "n k"]:
    """The k labels of the greatest scores of each image, best first, ties to the lowest id; on the host.

    Raises a UserError for NaN scores and unless 1 <= k <= c.
    """
    host = np.asarray(scores)
    if not np.issubdtype(host.dtype, np.floating):
        raise UserError(f"scores are {host.dtype}: expected floating point, convert with astype('float32')")
    if not 1 <= k <= host.shape[1]:
        raise UserError(f"K is {k} with {host.shape[1]} labels: expected 1 to {host.shape[1]}")
    ids = _by_passes(host, k) if k <= PASSES * host.shape[1] else _by_sort(host, k)
    if np.isnan(host.max(initial=-np.inf)):
        refuse_rows(np.isnan(host).any(axis=1), "scores are NaN", "a number for every label")
    return ids


def _count(scores: np.ndarray, labels: np.ndarray, ks: Sequence[int]) -> TopKCounts:
    c = scores.shape[1]
    ids, positive = top_labels(scores, max(ks)), labels == 1
    hit = np.take_along_axis(positive, ids, axis=1)
    right = [np.bincount(ids[:, :k][hit[:, :k]], minlength=c) for k in ks]
    chosen = [np.bincount(ids[:, :k].ravel(), minlength=c) for k in ks]
    return TopKCounts(np.stack(right), np.stack(chosen), positive.sum(axis=0), np.array(len(scores)))


def topk_counts(
    scores: Scores, labels: Labels, ks: Sequence[int] = (3, 5), mask: Mask = None, workers: int | None = None
) -> TopKCounts:
    """Takes the K best labels of each image, for each K, and counts per label what was chosen and what was right.

    Arguments:
      scores: ties go to the lowest id.
      labels: 1 is right; 0 and -1 are both wrong.
      mask: images that count, such as an `image_filter`.
      workers: threads; the number of cores by default.
    """
    check_ks(ks)
    host, marks, kept = np.asarray(scores), np.asarray(labels), kept_rows(mask, len(scores))
    if max(ks) > host.shape[1]:
        raise UserError(f"K is {max(ks)} with {host.shape[1]} labels: expected 1 to {host.shape[1]}")
    nan = np.isnan(host.max(axis=1, initial=-np.inf)) & kept  # max hands a NaN on
    refuse_rows(nan, "scores are NaN", "a number for every label")

    def work(first: int) -> TopKCounts:
        rows = slice(first, first + ROWS)
        return _count(host[rows][kept[rows]], marks[rows][kept[rows]], ks)

    with ThreadPoolExecutor(workers or os.cpu_count()) as threads:
        parts = list(threads.map(work, range(0, len(host), ROWS)))
    zeros = np.zeros((len(ks), host.shape[1]), np.int64)
    parts.append(TopKCounts(zeros, zeros, zeros[0], np.array(0)))
    return TopKCounts(*(np.array(sum(part)) for part in zip(*parts, strict=True)))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, 0 where below is 0."""
    return np.where(below > 0, above / np.maximum(below, np.finfo(float).tiny), 0.0)


def f1_at_k(counts: TopKCounts, average: str = "micro") -> F1AtK:
    """Precision, recall and F1 = 2PR / (P + R) of the K best labels of each image, in the order of the ks.

    Arguments:
      average: "micro", over all (image, label) cells: P = right / (K images), R = right / positives (LESA, ML2P,
        BiAM, SDL); or "macro", the mean of each over labels, F1 of a label from its own P and R, 0 where a
        denominator is 0 (scikit-learn's "macro").

    Raises a UserError without images, and for "micro" without positives.
    """
    choose("average", average, {"micro": 0, "macro": 0})
    if counts.images == 0:
        raise UserError("F1 of no images: expected at least one; a filter may have dropped them all")
    right, chosen = np.asarray(counts.right, np.float64), np.asarray(counts.chosen, np.float64)
    positives = np.broadcast_to(np.asarray(counts.positives, np.float64)[None, :], right.shape)
    if average == "micro":
        if not positives.any():
            raise UserError("F1 without positives: expected at least one label of 1")
        right, chosen, positives = (x.sum(axis=1, keepdims=True) for x in (right, chosen, positives))
    ratios = _ratio(right, chosen), _ratio(right, positives), _ratio(2 * right, chosen + positives)
    return F1AtK(*(r.mean(axis=1) for r in ratios))


def multilabel_metrics(
    scores: Scores, labels: Labels, protocol: str, ks: Sequence[int] = (3, 5), workers: int | None = None
) -> dict[str, float]:
    """{"map", "p@3", "r@3", "f1@3", ...} by a named protocol, a key of `PROTOCOLS`; F1 is micro.

    ks are 3 and 5 on NUS-WIDE, 10 and 20 on Open Images. AP has scikit-learn's rule for ties.
    """
    rule = choose("protocol", protocol, PROTOCOLS)
    mask = image_filter(labels, rule.images) if rule.images != "all" else None
    ap = average_precision(scores, labels, rule.entries, mask=mask, workers=workers)
    at_k = f1_at_k(topk_counts(scores, labels, ks, mask, workers))
    values = {"map": mean_average_precision(ap_counts(ap, labels, mask), rule.empty)}
    for k, p, r, f in zip(ks, *at_k, strict=True):
        values |= {f"p@{k}": float(p), f"r@{k}": float(r), f"f1@{k}": float(f)}
    return values
