"""Accuracies of zero-shot learning, as (sum, count) per class; divided once, at the end."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer


class ClassCounts(NamedTuple):
    """Correct answers and images of each class. Counts of two blocks of images add up."""

    correct: Float[Array, " c"]
    total: Float[Array, " c"]


def class_counts(predicted: Integer[Array, " n"], truth: Integer[Array, " n"], n_classes: int) -> ClassCounts:
    """Counts right answers and images per true class; `predicted` and `truth` are class ids."""
    hit = (predicted == truth).astype(jnp.float32)
    zeros = jnp.zeros(n_classes, jnp.float32)  # exact up to 2^24 images a class
    return ClassCounts(zeros.at[truth].add(hit), zeros.at[truth].add(1.0))


def per_class_accuracy(counts: ClassCounts) -> float:
    """Mean over the classes present of correct_c / n_c, in [0, 1]: the headline accuracy of the field.

    Reference: Xian et al. 2018, "Zero-shot learning: the good, the bad and the ugly",
    the average per-class top-1 accuracy.
    """
    correct, total = (np.asarray(x, np.float64) for x in counts)
    present = total > 0
    if not present.any():
        raise ValueError("accuracy of no images: expected at least one class with images")
    return float(np.mean(correct[present] / total[present]))


def micro_accuracy(counts: ClassCounts) -> float:
    """Share of all images that are right, in [0, 1]; large classes weigh more."""
    correct, total = (np.asarray(x, np.float64).sum() for x in counts)
    if total == 0:
        raise ValueError("accuracy of no images: expected at least one")
    return float(correct / total)


def harmonic_mean(unseen: float, seen: float) -> float:
    """H = 2 u s / (u + s), 0 where both are 0.

    Reference: Xian et al. 2018, the harmonic mean of generalised zero-shot learning.

    >>> harmonic_mean(0.2, 0.6)
    0.3
    """
    return 2 * unseen * seen / (unseen + seen) if unseen + seen > 0 else 0.0
