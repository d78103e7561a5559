"""Rows for training. A row is a group of `weight` images of one class: its mean and its scatter.

An image is a group of one; with least squares a whole class may be one group, and the loss and its
gradient stay exact: sum_i ||x_i - f||^2 = n ||mean - f||^2 + scatter.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from demjax import distributed
from demjax.data.class_set import ClassSet
from demjax.data.lazy_rows import Deferred, Indexed, read_rows
from demjax.data.splits import by_class

CLASSES = 8  # whose images a process sums up before the next one has its turn


class Rows(NamedTuple):
    """Columns of n rows, behind which stands an empty one: zeros, weight 0. Incomplete batches are padded with it.

    Attributes:
      columns: {name: array, Indexed or Deferred [n + 1, ...]}; `weight` is always one of them.
      noun: what a row stands for, for reports: `images` or `classes`.
      group: None, or int32 [n] ascending from 0: rows of one group are alternatives, a step draws different groups and
        one row of each.
      streams: whether rows may be streamed in random blocks.
    """

    columns: dict[str, Any]
    noun: str = "images"
    group: np.ndarray | None = None
    streams: bool = False

    @property
    def n_rows(self) -> int:
        """Without the empty one."""
        return len(self.columns["weight"]) - 1


def examples(dataset: ClassSet) -> Rows:
    """One row per training image; the features of a mapped file are read where they are used.

    Columns: features [n + 1, d], label int32, weight 1, scatter 0.
    """
    ids = dataset.splits[dataset.training]
    n = len(ids)
    columns = _with_empty_row(
        features=Indexed(dataset.features, ids) if dataset.is_mapped else dataset.features[ids],
        label=dataset.labels[ids],
        weight=np.ones(n, np.float32),
        scatter=np.zeros(n, np.float32),
    )
    return Rows(columns, "images", streams=True)


def class_sums(dataset: ClassSet) -> Rows:
    """One row per seen class: mean, number of images (the weight), sum of squared distances to the mean (the scatter).

    Of a mapped file means and scatters are Deferred: every process reads the images of its share of the classes.
    Columns: features [s + 1, d], label int32, weight, scatter, all sums in float64.
    """
    images = [of_class for _, of_class in by_class(dataset.splits[dataset.training], dataset.labels)]

    def summed(classes: slice) -> tuple[np.ndarray, np.ndarray]:
        means, scatters = [], []
        for of_class in images[classes]:  # class by class: no float64 copy of all features at once
            x = read_rows(dataset.features, of_class).astype(np.float64)
            means.append(x.mean(axis=0))
            scatters.append(np.square(x - means[-1]).sum())
        return np.array(means, np.float32), np.array(scatters, np.float32)

    n, width = len(images), dataset.features.shape[1]
    known = _with_empty_row(label=dataset.seen, weight=np.array([len(x) for x in images], np.float32))
    if not dataset.is_mapped:
        means, scatter = summed(slice(n))
        return Rows(_with_empty_row(features=means, scatter=scatter) | known, "classes")
    like = np.zeros((0, width), np.float32), np.zeros(0, np.float32)
    shared: list[np.ndarray] = []

    def sums(stop_point: Callable[[], Any]) -> list[np.ndarray]:
        if not shared:
            shared.extend(distributed.share_rows(n, CLASSES, summed, like, stop_point))
        return shared

    deferred = {
        "features": Deferred((n + 1, width), lambda stop_point: sums(stop_point)[0]),
        "scatter": Deferred((n + 1,), lambda stop_point: sums(stop_point)[1]),
    }
    return Rows(known | deferred, "classes")


def classes(dataset: ClassSet) -> Rows:
    """One row per training image, class by class: a step draws different classes, and an image of each.

    Columns: features [n + 1, d], Indexed; label int32, weight 1, image int32 (the number of the image in the set). The
    group of a row is the place of its class among the seen ones. Within a class images stand in the order of the split.
    """
    images = dataset.splits[dataset.training]
    images = images[np.argsort(dataset.labels[images], kind="stable")]
    label = dataset.labels[images]
    columns = _with_empty_row(
        features=Indexed(dataset.features, images),
        label=label,
        weight=np.ones(len(images), np.float32),
        image=images.astype(np.int32),
    )
    return Rows(columns, "classes", np.searchsorted(dataset.seen, label).astype(np.int32))


def _with_empty_row(**columns: Any) -> dict[str, Any]:
    """Appends a row of zeros where an array has none yet; labels become int32."""
    if "label" in columns:
        columns["label"] = columns["label"].astype(np.int32)
    lazy = (Indexed, Deferred)
    return {k: v if isinstance(v, lazy) else np.concatenate([v, np.zeros_like(v[:1])]) for k, v in columns.items()}
