"""Planted sets: zero-shot problems with a known best answer, of any size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_ndtr

from demjax.checks import UserError, in_range
from demjax.data.class_set import ClassSet
from demjax.data.splits import hold_out


def plant(
    *,
    n_classes: int = 100,
    n_unseen: int = 25,
    n_attributes: int = 16,
    n_features: int = 128,
    images_per_class: int = 30,
    noise: int | float = 1.0,
    hubness: int | float = 0.3,
    seed: int = 0,
) -> ClassSet:
    """Draws classes, their attributes, and images around prototypes that are a smooth function of them.

        a_c ~ U[-1, 1]^a       mu_c = m + r(a_c) (relu(B tanh(A a_c) + 1/2) - m)       t ~ U[1 - hubness, 1]
        x = m + t (mu_c - m) + noise * e,   e ~ N(0, I)

    A and B are random, m is the mean of all prototypes. Two things make hubs, as in real features: r draws a
    tenth of the classes inwards (smoothly in their attributes, down to 1 - 0.6 hubness), and t lets single
    images fall short of their prototype; then the inner prototypes are nearest to images of all classes.

    The set knows its Bayes accuracy: what the most likely class under the law above reaches on the very
    test images drawn. No method can expect more; it stands in `ClassSet.bayes`.

    Args:
      n_classes: of which `n_unseen` have no training image.
      images_per_class: a fifth of those of a seen class is test_seen.
      noise: standard deviation of each coordinate; prototypes have coordinates of about 1/2.
      hubness: 0 (none) to 1.
      seed: of everything.
    """
    for what, value, low in (
        ("n_classes", n_classes, 3), ("n_unseen", n_unseen, 1), ("n_attributes", n_attributes, 1),
        ("n_features", n_features, 1), ("images_per_class", images_per_class, 3),
        ("noise", noise, 0), ("seed", seed, 0),
    ):  # fmt: skip
        in_range(f"data.planted.{what}", value, low)
    in_range("data.planted.hubness", hubness, 0, 1)
    if n_classes - n_unseen < 2:
        raise UserError(f"data.planted: {n_unseen} of {n_classes} classes are unseen: expected two seen ones or more")
    rng = np.random.default_rng(seed)
    attributes = rng.uniform(-1, 1, (n_classes, n_attributes)).astype(np.float32)
    centre, outward = _prototypes(attributes, n_features, hubness, rng)
    labels = np.repeat(np.arange(n_classes), images_per_class)
    reach = rng.uniform(1 - hubness, 1, (len(labels), 1)).astype(np.float32)
    features = centre + reach * outward[labels] + noise * rng.standard_normal((len(labels), n_features), np.float32)
    unseen = np.sort(rng.permutation(n_classes)[:n_unseen])
    splits = _splits(labels, unseen, seed)
    return ClassSet(
        name="planted",
        features=features.astype(np.float32),
        labels=labels,
        classes=tuple(f"class_{c:0{len(str(n_classes - 1))}d}" for c in range(n_classes)),
        semantics=attributes,
        splits=splits,
        version="planted",
        sources={"features": "planted", "semantics": "planted"},
        bayes=_bayes(features - centre, labels, outward, splits, unseen, noise, hubness),
    )


def _prototypes(attributes: np.ndarray, width: int, hubness: int | float, rng: np.random.Generator):
    """The mean m [d] of all prototypes, and mu_c - m [c, d]."""
    a = attributes.shape[1]
    hidden = 2 * a
    first = rng.standard_normal((a, hidden)) * np.sqrt(3 / a)  # attributes have variance 1/3
    second = rng.standard_normal((hidden, width)) / np.sqrt(hidden)
    inward = rng.standard_normal(a)
    z = attributes @ inward * np.sqrt(3) / np.linalg.norm(inward)  # about N(0, 1)
    raw = np.maximum(np.tanh(attributes @ first) @ second + 0.5, 0.0)
    centre = raw.mean(axis=0)
    keep = 1 - 0.6 * hubness / (1 + np.exp(-8 * (z - 1.2)))
    return centre.astype(np.float32), (keep[:, None] * (raw - centre)).astype(np.float32)


def _splits(labels: np.ndarray, unseen: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    is_unseen = np.isin(labels, unseen)
    trainval, test_seen = hold_out(np.flatnonzero(~is_unseen), labels, share=0.2, seed=seed)
    seen = np.setdiff1d(labels, unseen)
    val = seen[:: max(2, len(seen) // max(1, len(seen) // 4))]  # every fourth seen class
    in_val = np.isin(labels[trainval], val)
    return {
        "trainval": trainval,
        "test_seen": test_seen,
        "test_unseen": np.flatnonzero(is_unseen),
        "train": trainval[~in_val],
        "val": trainval[in_val],
    }


def _bayes(centred, labels, outward, splits, unseen, noise: int | float, hubness: int | float) -> dict[str, float]:
    """Per-class accuracies of the most likely class: computed here without the engine, in float64."""

    def accuracy(role: str, candidates: np.ndarray) -> float:
        x, y = centred[splits[role]].astype(np.float64), labels[splits[role]]
        best = candidates[np.argmax(_log_likelihood(x, outward[candidates].astype(np.float64), noise, hubness), axis=1)]
        return float(np.mean([(best[y == c] == c).mean() for c in np.unique(y)]))

    everyone = np.arange(len(outward))
    u, s = accuracy("test_unseen", everyone), accuracy("test_seen", everyone)
    return {
        "zsl/top1": accuracy("test_unseen", unseen),
        "gzsl/unseen": u,
        "gzsl/seen": s,
        "gzsl/harmonic": 2 * u * s / (u + s) if u + s > 0 else 0.0,
    }


def _log_likelihood(x: np.ndarray, outward: np.ndarray, noise: int | float, hubness: int | float):
    """log p(x | c) + const, [n, c]. Along the ray to mu_c the integral over t is that of a Gaussian: two tails."""
    sigma = max(noise, 1e-3)
    length = np.maximum(np.linalg.norm(outward, axis=1), 1e-6 * sigma)  # a prototype may be the centre itself
    along = x @ (outward / length[:, None]).T
    if hubness < 1e-6:  # all reach their prototype
        return (along - length / 2) * length / sigma**2
    start, end = ((1 - hubness) * length - along) / sigma, (length - along) / sigma
    start, end = np.where(start > 0, -end, start), np.where(start > 0, -start, end)  # tails near 1 round to one number
    upper, lower = log_ndtr(end), log_ndtr(start)
    return np.square(along / sigma) / 2 + upper + np.log(-np.expm1(lower - upper)) - np.log(length)


def read(name: str, folder: Path | None, *, planted: Mapping[str, Any], **_: Any) -> ClassSet:
    """A planted set by the settings of `plant`; needs no name and no folder."""
    return plant(**planted)
