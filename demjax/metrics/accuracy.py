"""Accuracies of zero-shot learning and flat hit@k, as (sum, count) per class; divided once, at the end."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from demjax.checks import UserError, choose, in_range
from demjax.metrics.inputs import Ids, Mask, Scores, check_ids, check_ks, kept_rows, namespace, refuse_nan, refuse_rows

TIES = {
    "lowest_id": "rank = 1 + candidates of greater score + equal ones of lower id (demjax's order everywhere)",
    "pessimistic": "rank = candidates of a score >= the truth's, the truth among them (released code of DGP)",
}


class ClassCounts(NamedTuple):
    """Correct answers and images of each class. Counts of two blocks of images add up."""

    correct: Float[Array, " c"]
    total: Float[Array, " c"]


class HitCounts(NamedTuple):
    """Images of each class whose true label is among the k best, for each k, and images. Counts of blocks add up."""

    hits: Integer[np.ndarray, "k c"]
    total: Integer[np.ndarray, " c"]


def class_counts(predicted: Ids, truth: Ids, n_classes: int, mask: Mask = None) -> ClassCounts:
    """Counts right answers and images per true class; `predicted` and `truth` are class ids, on the device.

    Raises a UserError for a truth out of range; under jit it cannot be looked at and is left out.
    """
    if not isinstance(truth, jax.core.Tracer):
        check_ids(np.asarray(truth), kept_rows(mask, len(truth)), n_classes)
    weight = jnp.ones(truth.shape, jnp.float32) if mask is None else mask.astype(jnp.float32)
    hit = weight * (predicted == truth).astype(jnp.float32)
    zeros = jnp.zeros(n_classes, jnp.float32)  # exact up to 2^24 images a class
    place = jnp.where(truth < 0, n_classes, truth)  # a negative index would count from the end
    return ClassCounts(*(zeros.at[place].add(x, mode="drop") for x in (hit, weight)))


def _per_class(correct: np.ndarray, total: np.ndarray) -> np.ndarray:
    present = total > 0
    if not present.any():
        raise UserError("accuracy of no images: expected at least one class with images")
    return np.asarray(np.mean(correct[..., present] / total[present], axis=-1))


def _micro(correct: np.ndarray, total: np.ndarray) -> np.ndarray:
    if total.sum() == 0:
        raise UserError("accuracy of no images: expected at least one")
    return np.asarray(correct.sum(axis=-1) / total.sum())


AVERAGES = {"per_class": _per_class, "micro": _micro}


def per_class_accuracy(counts: ClassCounts) -> float:
    """Mean over the classes present of correct_c / n_c, in [0, 1]: the headline accuracy of the field.

    Reference: Xian et al. 2018, "Zero-shot learning: the good, the bad and the ugly", per-class top-1 accuracy.
    """
    return float(_per_class(*(np.asarray(x, np.float64) for x in counts)))


def micro_accuracy(counts: ClassCounts) -> float:
    """Share of all images that are right, in [0, 1]; large classes weigh more."""
    return float(_micro(*(np.asarray(x, np.float64) for x in counts)))


def harmonic_mean(unseen: float, seen: float) -> float:
    """H = 2 u s / (u + s), 0 where both are 0. Raises a UserError unless both are accuracies, in [0, 1].

    Reference: Xian et al. 2018, the harmonic mean of generalised zero-shot learning.

    >>> harmonic_mean(0.2, 0.6)
    0.3
    """
    in_range("unseen", unseen, 0, 1)
    in_range("seen", seen, 0, 1)
    return 2 * unseen * seen / (unseen + seen) if unseen + seen > 0 else 0.0


def _ranks(xp: Any, scores: Any, truth: Any, ties: str) -> Any:
    of_truth = xp.take_along_axis(scores, truth[:, None], axis=1)
    if ties == "pessimistic":
        return xp.sum(scores >= of_truth, axis=1)
    lower = xp.arange(scores.shape[1])[None, :] < truth[:, None]
    return 1 + xp.sum((scores > of_truth) | ((scores == of_truth) & lower), axis=1)


_ranks_on_device = partial(jax.jit, static_argnames="ties")(partial(_ranks, jnp))


def truth_ranks(scores: Scores, truth: Ids, ties: str = "lowest_id", mask: Mask = None) -> Integer[np.ndarray, " n"]:
    """Rank of the true candidate of each image, from 1; 0 in the rows off the mask.

    Arguments:
      scores: a column for each candidate. Arrays of JAX are compared on their device.
      truth: the true column of each image.
      ties: a key of `TIES`. "lowest_id" is never behind "pessimistic".

    Raises a UserError for NaN scores and for a truth that is no column.
    """
    choose("ties", ties, TIES)
    kept = kept_rows(mask, len(truth))
    check_ids(np.asarray(truth), kept, scores.shape[1])
    refuse_nan(scores, kept)
    xp = namespace(scores)
    columns = xp.asarray(np.where(kept, np.asarray(truth), 0))
    ranks = _ranks_on_device(scores, columns, ties) if xp is jnp else _ranks(np, scores, columns, ties)
    return np.where(kept, np.asarray(ranks), 0)


def hit_counts(ranks: Ids, truth: Ids, ks: Sequence[int], n_classes: int, mask: Mask = None) -> HitCounts:
    """Counts the images of each true class with rank <= k, for each k.

    `ranks` count from 1: of `truth_ranks`, or of a search that counts ranks without ever holding all scores.
    """
    check_ks(ks)
    rank, label, kept = np.asarray(ranks), np.asarray(truth), kept_rows(mask, len(truth))
    check_ids(label, kept, n_classes)
    refuse_rows(kept & (rank < 1), "the rank is below 1", "ranks counted from 1; mask rows without one")
    hits = [np.bincount(label[kept & (rank <= k)], minlength=n_classes) for k in ks]
    return HitCounts(np.stack(hits), np.bincount(label[kept], minlength=n_classes))


def hit_at_k(counts: HitCounts, average: str = "per_class") -> Float[np.ndarray, " k"]:
    """hit@k, flat: the share of images with their label in the top k, in [0, 1], in the order of the ks of the counts.

    Arguments:
      average: "per_class", the mean over the classes present, or "micro", the mean over images (DGP's).

    Two published rows compare only where both the average and the tie rule agree. Raises a UserError without images.
    """
    mean = choose("average", average, AVERAGES)
    return mean(*(np.asarray(x, np.float64) for x in counts))
