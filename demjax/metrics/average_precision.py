"""Average precision of labels (mAP) and of images (MiAP), on the host: sort each column once, look the positives up.

Only the positives have a precision, and they are few: one sort of the scores and a binary search for each positive
give what a curve over all entries would. Columns are sorted in threads (NumPy lets go of the interpreter there).
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from demjax.checks import UserError, choose
from demjax.metrics.inputs import Labels, Mask, Rows, Scores, kept_rows, refuse_rows

ENTRIES = {
    "verified": "rank only entries with a label of 1 or -1 (LESA, ML2P, BiAM)",
    "all": "rank every entry; 0 counts as negative (SDL)",
}
COLUMNS = 64  # in one piece of work: 25 MB of 100,000 float32 scores
TILE_ROWS = 256


class APCounts(NamedTuple):
    """Sum of the APs of labels, and how many labels have a positive, any verified entry, are there. Blocks add up."""

    total: Float[np.ndarray, ""]
    with_positives: Integer[np.ndarray, ""]
    annotated: Integer[np.ndarray, ""]
    labels: Integer[np.ndarray, ""]


def _stepped(scores: np.ndarray, positives: np.ndarray) -> float:
    """Mean over positives of (positives of at least its score) / (entries of at least its score)."""
    relevant, ranked = np.sort(scores[positives]), np.sort(scores)
    above = len(ranked) - np.searchsorted(ranked, relevant, side="left")
    right = len(relevant) - np.searchsorted(relevant, relevant, side="left")
    return float(np.mean(right / above))


def _by_lowest_id(scores: np.ndarray, positives: np.ndarray) -> float:
    """Mean over positives of Prec@rank, where equal scores stand in the order of their rows."""
    relevant, ranked = np.sort(scores[positives])[::-1], np.sort(scores)
    left, right = (np.searchsorted(ranked, relevant, side=side) for side in ("left", "right"))
    if (right - left > 1).any():  # only a tie with a positive needs the order of the rows
        order = np.argsort(-scores, kind="stable")
        ranks = 1 + np.flatnonzero(np.isin(order, positives))
    else:
        ranks = len(ranked) - left
    return float(np.mean(np.arange(1, len(relevant) + 1) / ranks))


RULES = {"stepped": _stepped, "lowest_id": _by_lowest_id}


def _piece(scores: np.ndarray, labels: np.ndarray, entries: str, ties: str) -> np.ndarray:
    """AP of each row of [r, n]; NaN where nothing is positive."""
    ap = np.full(len(scores), np.nan)
    for i, (score, label) in enumerate(zip(scores, labels, strict=True)):
        if entries == "verified":
            kept = label != 0
            score, label = score[kept], label[kept]
        positives = np.flatnonzero(label == 1)
        if len(positives):
            ap[i] = RULES[ties](score, positives)
    return ap


def _sortable(scores: Rows) -> np.ndarray:
    """On the host, float32 or float64: NumPy sorts the 16-bit types slowly or not at all."""
    host = np.asarray(scores)
    return host if host.dtype in (np.float32, np.float64) else host.astype(np.float32)


def _rows_first(array: np.ndarray, columns: slice, kept: np.ndarray | None) -> np.ndarray:
    """The columns as rows; turned tile by tile, which is three times as fast as NumPy's copy of the transpose."""
    piece = np.empty((len(range(array.shape[1])[columns]), len(array)), array.dtype)
    for first in range(0, len(array), TILE_ROWS):
        rows = slice(first, first + TILE_ROWS)
        piece[:, rows] = array[rows, columns].T
    return piece if kept is None else piece[:, kept]


def average_precision(
    scores: Scores,
    labels: Labels,
    entries: str = "verified",
    ties: str = "stepped",
    mask: Mask = None,
    workers: int | None = None,
) -> Float[np.ndarray, " c"]:
    """AP of each label over the images, in (0, 1]; NaN where a label has no positive image.

    AP_c = sum over ranks k of [rel_k] Prec@k / positives, without interpolation.

    Arguments:
      scores: of all images at once: a rank needs them all. Blocks of labels are independent.
      entries: a key of `ENTRIES`.
      ties: "stepped" makes equal scores one step of the curve, as scikit-learn; "lowest_id" ranks them by row.
      mask: images that count; the others may hold anything.
      workers: threads; the number of cores by default.

    Raises a UserError without images, for NaN scores or labels, and for shapes that do not fit.
    """
    choose("entries", entries, ENTRIES)
    choose("ties", ties, RULES)
    host, marks = _sortable(scores), np.asarray(labels)
    counted = kept_rows(mask, len(host))
    kept = None if mask is None else counted
    if not counted.any():
        raise UserError("average precision of no images: expected at least one")
    if marks.shape != host.shape:
        raise UserError(f"scores {host.shape} and labels {marks.shape}: expected one label for each score")
    if np.issubdtype(marks.dtype, np.floating):
        refuse_rows(np.isnan(marks).any(axis=1) & counted, "labels are NaN", "1, -1, or 0 for unverified")

    def work(first: int) -> np.ndarray:
        columns = slice(first, first + COLUMNS)
        piece = _rows_first(host, columns, kept)
        if np.isnan(piece.max()):  # a NaN is the greatest of all
            nan = np.isnan(host[:, columns]).any(axis=1) & counted
            refuse_rows(nan, "scores are NaN", "a number for every label")
        return _piece(piece, _rows_first(marks, columns, kept), entries, ties)

    with ThreadPoolExecutor(workers or os.cpu_count()) as threads:
        pieces = list(threads.map(work, range(0, host.shape[1], COLUMNS)))
    return np.concatenate([*pieces, np.zeros(0)])


def image_average_precision(
    scores: Scores,
    labels: Labels,
    entries: str = "all",
    ties: str = "stepped",
    mask: Mask = None,
    workers: int | None = None,
) -> Float[np.ndarray, " n"]:
    """AP of each image over its labels; NaN where an image has no positive label or is off the mask.

    Its mean over images is MiAP, the measure of Fast0Tag (Zhang et al. 2016): another number than mAP, which averages
    over labels. Blocks of images are independent. Arguments as for `average_precision`.
    """
    host, marks, kept = _sortable(scores), np.asarray(labels), kept_rows(mask, len(scores))
    refuse_rows(np.isnan(host).any(axis=1) & kept, "scores are NaN", "a number for every label")
    ap = np.full(len(host), np.nan)
    if kept.any() and host.shape[1]:
        ap[kept] = average_precision(host[kept].T, marks[kept].T, entries, ties, None, workers)
    return ap


def ap_counts(ap: Float[np.ndarray, " averaged"], labels: Labels, mask: Mask = None, axis: int = 0) -> APCounts:
    """Sums APs of a block and counts them: of labels (`axis` 0), or of images (1: those of `image_average_precision`).

    A column, or with `axis` 1 a row, is annotated if one of its entries is not 0.
    """
    kept = kept_rows(mask, len(labels))
    annotated = (np.asarray(labels)[kept] != 0).any(axis=axis)
    return APCounts(*map(np.array, (np.nansum(ap), np.sum(~np.isnan(ap)), annotated.sum(), len(annotated))))


def mean_average_precision(counts: APCounts, empty: str = "kept") -> float:
    """Mean of APs, in [0, 1].

    Arguments:
      empty: what becomes of a label without a positive. "kept": its AP is 0 and counts (LESA, ML2P, BiAM on
        NUS-WIDE). "annotated": so, but labels without any verified entry are dropped (BiAM on Open Images).
        "dropped": only labels with a positive count.

    Raises a UserError where nothing is left to average.
    """
    denominators = {"kept": counts.labels, "annotated": counts.annotated, "dropped": counts.with_positives}
    n = choose("empty", empty, denominators)
    if n == 0:
        raise UserError(f"mean AP of no labels: none is left with empty={empty!r}")
    return float(counts.total / n)
