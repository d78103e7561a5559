"""Retrieval: recall@k and rank statistics from ranks, which image and caption belong together, precision@k per class.

Ranks count from 1 and are those of the best positive of each query; a search produces them by counting.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Integer

from demjax.checks import UserError, choose
from demjax.metrics.inputs import Ids, Mask, check_ids, check_ks, kept_rows, refuse_rows

MEDIANS = {
    "from_1": lambda median: median,
    "from_0": lambda median: median - 1,  # DSVE
    "floor": lambda median: float(np.floor(median)),  # VSE++: floor of the 0-based median, plus 1
}


class RankCounts(NamedTuple):
    """How many queries have rank 1, 2, ... Counts of two blocks of queries add up."""

    queries: Integer[np.ndarray, " n_ranks"]


class Pairing(NamedTuple):
    """Positives of each query, padded with -1: captions of each image, and the one image of each caption."""

    image_to_text: Integer[np.ndarray, "n_images m"]
    text_to_image: Integer[np.ndarray, "n_captions 1"]


class PrecisionCounts(NamedTuple):
    """For each class, sum over its queries of precision@k for each k, and its queries. Counts of blocks add up."""

    total: Float[np.ndarray, "k c"]
    queries: Integer[np.ndarray, " c"]


def rank_counts(ranks: Ids, n_gallery: int, mask: Mask = None) -> RankCounts:
    """Counts the queries of each rank 1 .. n_gallery; rows off the mask (padding, no positive) do not count.

    Raises a UserError that names the row of a rank outside.
    """
    rank, kept = np.asarray(ranks), kept_rows(mask, len(ranks))
    refuse_rows(kept & ((rank < 1) | (rank > n_gallery)), "the rank is out of range", f"1 to {n_gallery}")
    return RankCounts(np.bincount(rank[kept] - 1, minlength=n_gallery))


def _cumulated(counts: RankCounts) -> np.ndarray:
    below = np.cumsum(counts.queries)
    if len(below) == 0 or below[-1] == 0:
        raise UserError("ranks of no queries: expected at least one")
    return below


def recall_at_k(counts: RankCounts, ks: Sequence[int] = (1, 5, 10)) -> Float[np.ndarray, " k"]:
    """Share of queries with their best positive among the first k, for each k, in [0, 1].

    This is what image-caption retrieval calls R@K (VSE++): success at K, at least one of several captions, not the
    share of captions. Raises a UserError without queries.
    """
    check_ks(ks)
    below = _cumulated(counts)
    return below[np.minimum(ks, len(below)) - 1] / below[-1]


def median_rank(counts: RankCounts, convention: str = "from_1") -> float:
    """Median rank; of an even number of queries the mean of the two middle ones.

    Arguments:
      convention: "from_1" the median of ranks from 1, "from_0" one less (released code of DSVE), "floor" rounded
        down (released code of VSE++: floor(median of ranks from 0) + 1).
    """
    converted = choose("convention", convention, MEDIANS)
    below = _cumulated(counts)
    n = int(below[-1])
    middle = np.searchsorted(below, [(n - 1) // 2, n // 2], side="right") + 1
    return float(converted(float(middle.mean())))


def mean_rank(counts: RankCounts) -> float:
    """Mean rank, from 1 (as VSE++ prints it)."""
    n = _cumulated(counts)[-1]
    return float(np.dot(counts.queries, np.arange(1, len(counts.queries) + 1)) / n)


def pair_captions(image_of_caption: Integer[Array | np.ndarray, " n_captions"], n_images: int) -> Pairing:
    """Positives of both directions from the image of each caption; images may have different numbers of captions.

    The captions of an image stand in the order of their ids. An image without captions has a row of -1: mask it, it
    cannot be found. Raises a UserError for a foreign image id and without captions.

    >>> pair_captions(np.array([0, 1, 0]), 2).image_to_text.tolist()
    [[0, 2], [1, -1]]
    """
    image = np.asarray(image_of_caption)
    if len(image) == 0:
        raise UserError("no captions to pair: expected at least one")
    refuse_rows((image < 0) | (image >= n_images), "the image of the caption is out of range", f"0 to {n_images - 1}")
    sizes = np.bincount(image, minlength=n_images)
    order = np.argsort(image, kind="stable")
    within = np.arange(len(image)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    captions = np.full((n_images, sizes.max()), -1, np.int32)
    captions[image[order], within] = order
    return Pairing(captions, image.astype(np.int32)[:, None])


def sequential_folds(n_images: int, size: int = 1000) -> list[slice]:
    """Rows of the folds of `size` images, in order; an incomplete last one is left out.

    COCO 1K of VSE++ and DSVE is the mean over five such folds; a single fold is another, higher number.

    >>> sequential_folds(25, 10)
    [slice(0, 10, None), slice(10, 20, None)]
    """
    if size < 1 or n_images < size:
        raise UserError(f"{n_images} images do not fill a fold of {size}: expected at least one whole fold")
    return [slice(i, i + size) for i in range(0, n_images - size + 1, size)]


def precision_counts(
    ranked_labels: Integer[Array | np.ndarray, "n depth"],
    query_class: Ids,
    n_classes: int,
    ks: Sequence[int] = (1, 5, 10, 50),
    mask: Mask = None,
) -> PrecisionCounts:
    """Sums precision@k = (items of the query's class among the k nearest) / k over the queries of each class.

    Arguments:
      ranked_labels: classes of the items of each query, nearest first, at least max(ks) of them; -1 is
        padding and is never right.
      query_class: class of each query, such as that of a class prototype; 0 to n_classes - 1.

    Raises a UserError for a class out of range, and for lists shorter than the largest k.
    """
    check_ks(ks)
    ranked, label, kept = np.asarray(ranked_labels), np.asarray(query_class), kept_rows(mask, len(query_class))
    check_ids(label, kept, n_classes)
    if max(ks) > ranked.shape[1]:
        raise UserError(f"k is {max(ks)} and the lists hold {ranked.shape[1]} items: rank more items, or lower k")
    label = label[kept]
    right = ranked[kept] == label[:, None]
    total = [np.bincount(label, right[:, :k].sum(axis=1) / k, minlength=n_classes) for k in ks]
    return PrecisionCounts(np.array(total), np.bincount(label, minlength=n_classes))


def precision_at_k(counts: PrecisionCounts) -> Float[np.ndarray, " k"]:
    """Mean over the classes with queries of their mean precision@k, for each k of `precision_counts`, in [0, 1].

    With class prototypes as queries and k = 50 this is the "AP@50" of Reed et al. 2016, "Learning deep
    representations of fine-grained visual descriptions"; it is not an average precision. A class with fewer than k
    images cannot reach 1 and is not rescaled (`precision_ceiling`). Raises a UserError without queries.
    """
    present = counts.queries > 0
    if not present.any():
        raise UserError("precision of no queries: expected at least one")
    return (counts.total[:, present] / counts.queries[present]).mean(axis=1)


def precision_ceiling(class_sizes: Integer[Array | np.ndarray, " c"], ks: Sequence[int]) -> Float[np.ndarray, " k"]:
    """The greatest precision@k reachable, mean over classes of min(n_c, k) / k: 1 where all classes hold k items.

    >>> precision_ceiling(np.array([25, 100]), (1, 50)).tolist()
    [1.0, 0.75]
    """
    check_ks(ks)
    sizes, k = np.asarray(class_sizes), np.asarray(ks)
    if len(sizes) == 0:
        raise UserError("precision of no classes: expected at least one")
    return np.mean(np.minimum(sizes[:, None], k[None, :]) / k[None, :], axis=0)
