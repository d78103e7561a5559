"""Rows for training. A row is a group of `weight` images of one class: its mean and its scatter.

An image is a group of one; with least squares a whole class may be one group, and the loss and its
gradient stay exact: sum_i ||x_i - f||^2 = n ||mean - f||^2 + scatter.
"""

from typing import Any

import numpy as np

from demjax.data.dataset import Dataset
from demjax.data.picked import Picked

Rows = dict[str, Any]  # arrays, or what can be sliced like one


def examples(dataset: Dataset) -> Rows:
    """One row per training image; the features of a mapped file are read where they are used."""
    ids = dataset.splits["trainval"]
    n = len(ids)
    return _with_empty_row(
        features=Picked(dataset.features, ids) if dataset.is_mapped else dataset.features[ids],
        label=dataset.labels[ids],
        weight=np.ones(n, np.float32),
        scatter=np.zeros(n, np.float32),
    )


def class_sums(dataset: Dataset) -> Rows:
    """One row per seen class: mean, number of images, sum of squared distances to the mean."""
    ids = dataset.splits["trainval"]
    labels = dataset.labels[ids]
    means, weights, scatters = [], [], []
    for c in dataset.seen:  # class by class: no float64 copy of all features at once
        x = dataset.features[ids[labels == c]].astype(np.float64)
        means.append(x.mean(axis=0))
        weights.append(len(x))
        scatters.append(np.square(x - means[-1]).sum())
    return _with_empty_row(
        features=np.array(means, np.float32),
        label=dataset.seen,
        weight=np.array(weights, np.float32),
        scatter=np.array(scatters, np.float32),
    )


def classes(dataset: Dataset) -> Rows:
    """One row per seen class, its number only: a step draws some classes, and the loss an image of each."""
    return _with_empty_row(label=dataset.seen, weight=np.ones(len(dataset.seen), np.float32))


BATCHING = {"examples": examples, "class_sums": class_sums, "classes": classes}


def _with_empty_row(**rows: Any) -> Rows:
    """Appends a row of zeros: weight 0 counts for nothing, so incomplete batches are padded with its id."""
    rows["label"] = rows["label"].astype(np.int32)
    return {k: v if isinstance(v, Picked) else np.concatenate([v, np.zeros_like(v[:1])]) for k, v in rows.items()}
