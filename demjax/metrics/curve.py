"""Seen against unseen accuracy under calibrated stacking, for every penalty at once: the curve, AUSUC, best H.

Chao et al. 2016, "An empirical study and analysis of generalized zero-shot learning for object recognition in the
wild": answer argmax_c f_c(x) - gamma [c is seen]. Only the best seen and the best unseen class of an image can win, so
an image flips once, where gamma passes its gap = best seen score - best unseen score, and sorted gaps are the curve.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from demjax.checks import UserError, choose
from demjax.metrics.accuracy import harmonic_mean
from demjax.metrics.inputs import Flags, Ids, Mask, Scores, check_ids, kept_rows, namespace, refuse_nan, refuse_rows

Best = Float[Array | np.ndarray, " n"]


class Gaps(NamedTuple):
    """What the curve needs of each image: its gap, whether the best class of its side is the true one, class, side."""

    gap: Float[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"]
    truth: Integer[np.ndarray, " n"]
    is_seen: Bool[np.ndarray, " n"]


class Curve(NamedTuple):
    """Accuracies on [gamma_i, gamma_i+1): gamma_0 = -inf (every answer a seen class), then the gaps, rising."""

    gamma: Float[np.ndarray, " m"]
    unseen: Float[np.ndarray, " m"]
    seen: Float[np.ndarray, " m"]


class Point(NamedTuple):
    """One point of the curve: gamma, accuracy on unseen and on seen classes, their harmonic mean."""

    gamma: float
    unseen: float
    seen: float
    harmonic: float


def gaps(
    best_seen: Best,
    seen_right: Flags,
    best_unseen: Best,
    unseen_right: Flags,
    truth: Ids,
    is_seen: Flags,
    mask: Mask = None,
) -> Gaps:
    """The record of a block of images, rows off the mask left out; `join_gaps` joins blocks.

    Arguments:
      best_seen, best_unseen: the greatest score over the seen and over the unseen classes.
      seen_right, unseen_right: whether the class with that score is the true one.
      truth, is_seen: true class, and whether it is a seen one.

    The gap is taken in float64. Raises a UserError that names the row where a best score is not finite.
    """
    kept = kept_rows(mask, len(truth))
    seen, unseen = (np.asarray(x).astype(np.float64) for x in (best_seen, best_unseen))
    infinite = kept & ~(np.isfinite(seen) & np.isfinite(unseen))
    refuse_rows(infinite, "the best score is not finite", "a finite seen and a finite unseen best score")
    side = np.asarray(is_seen)
    right = np.where(side, np.asarray(seen_right), np.asarray(unseen_right))
    return Gaps(seen[kept] - unseen[kept], right[kept], np.asarray(truth)[kept], side[kept])


def gaps_of_scores(scores: Scores, truth: Ids, seen_classes: Bool[Array | np.ndarray, " c"], mask: Mask = None) -> Gaps:
    """The record of a block of images from their scores [n, c] over all classes; ties of scores go to the lowest id.

    Raises a UserError for NaN scores, a foreign class id, or where all classes stand on one side.
    """
    kept, label, seen = kept_rows(mask, len(truth)), np.asarray(truth), np.asarray(seen_classes)
    if seen.all() or not seen.any():
        raise UserError(f"{int(seen.sum())} of {len(seen)} classes are seen: expected some seen and some unseen")
    check_ids(label, kept, len(seen))
    refuse_nan(scores, kept)
    xp, best = namespace(scores), []
    for side in (seen, ~seen):
        of_side = xp.where(xp.asarray(side)[None, :], scores, -xp.inf)
        best += [np.asarray(of_side.max(axis=1)), np.asarray(of_side.argmax(axis=1)) == label]
    return gaps(best[0], best[1], best[2], best[3], label, seen[np.where(kept, label, 0)], mask)


def join_gaps(blocks: Sequence[Gaps]) -> Gaps:
    """The record of several blocks of images: O(n) numbers in all, the scores are long gone."""
    if not blocks:
        raise UserError("no blocks of images to join: expected at least one")
    return jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)


def _class_weights(g: Gaps) -> np.ndarray:
    """1 / (n_c |Y|), Y the classes present on the side of the image."""
    classes, index, size = np.unique(g.truth, return_inverse=True, return_counts=True)
    seen_images = np.bincount(index, g.is_seen, len(classes))
    both = (seen_images > 0) & (seen_images < size)
    if both.any():
        raise UserError(f"class {classes[both][0]} is seen in some rows and unseen in others: expected one side")
    n_seen = np.count_nonzero(seen_images)
    return 1 / (size[index] * np.where(g.is_seen, n_seen, len(classes) - n_seen))


def _image_weights(g: Gaps) -> np.ndarray:
    """1 / images on the side of the image."""
    n_seen = np.count_nonzero(g.is_seen)
    return 1 / np.where(g.is_seen, n_seen, len(g.is_seen) - n_seen)


WEIGHTS = {"per_class": _class_weights, "micro": _image_weights}


def seen_unseen_curve(g: Gaps, average: str = "per_class") -> Curve:
    """Both accuracies for every gamma, exact, in O(n log n); images of equal gap flip together.

    Arguments:
      average: "per_class", every image weighs 1 / (n_c |Y|) with Y the classes present on its side (the field's
        accuracy, Compute_AUSUC of pujols/Zero-shot-learning-journal), or "micro", every image weighs the same
        (compute_ausuc of universome/class-norm); they differ on unbalanced sets.

    At gamma = gap exactly the image has flipped to its unseen answer. Raises a UserError unless there are images of
    seen and of unseen classes.
    """
    if g.is_seen.all() or not g.is_seen.any():
        raise UserError(f"{int(g.is_seen.sum())} of {len(g.gap)} images are of seen classes: expected some of each")
    weight = choose("average", average, WEIGHTS)(g) * g.right
    gamma, group = np.unique(g.gap, return_inverse=True)
    gained = np.bincount(group, weight * ~g.is_seen, len(gamma))
    lost = np.bincount(group, weight * g.is_seen, len(gamma))
    unseen = np.concatenate([[0.0], np.cumsum(gained)])
    seen = np.concatenate([np.cumsum(lost[::-1])[::-1], [0.0]])  # summed from the end: exactly 0 there
    return Curve(np.concatenate([[-np.inf], gamma]), np.minimum(unseen, 1.0), np.minimum(seen, 1.0))


def ausuc(curve: Curve) -> float:
    """Area under the seen-unseen curve, in [0, 1]: trapezoids of seen over unseen, gamma from -inf to +inf.

    Reference: Chao et al. 2016.
    """
    return float(np.sum(np.diff(curve.unseen) * (curve.seen[1:] + curve.seen[:-1]) / 2))


def _point(curve: Curve, i: int, gamma: float) -> Point:
    unseen, seen = float(curve.unseen[i]), float(curve.seen[i])
    return Point(gamma, unseen, seen, harmonic_mean(unseen, seen))


def at_gamma(curve: Curve, gamma: float) -> Point:
    """Both accuracies and H with the penalty `gamma` on seen classes; gamma = 0 is no calibration.

    Raises a UserError for NaN.
    """
    if np.isnan(gamma):
        raise UserError("gamma is NaN: expected a number, -inf and inf included")
    return _point(curve, int(np.searchsorted(curve.gamma, gamma, side="right")) - 1, float(gamma))


def best_harmonic(curve: Curve) -> Point:
    """The greatest H on the curve, with the middle of the (first) interval of gamma that gives it.

    The middle keeps as far as possible from the gaps on both sides: rounding of scores does not flip an image. Where
    H is 0 everywhere the point is that of gamma = 0. Choose gamma on validation classes; on the test set this is an
    upper bound and must be called one.
    """
    total = curve.unseen + curve.seen
    h = 2 * curve.unseen * curve.seen / np.where(total > 0, total, 1.0)
    best = int(np.argmax(h))
    if h[best] == 0:
        return at_gamma(curve, 0.0)
    low, high = curve.gamma[best], curve.gamma[best + 1]  # H is 0 on both outer intervals
    return _point(curve, best, float(low + (high - low) / 2))
