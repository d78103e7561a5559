"""Rows for training. A row is a group of `weight` images of one class: its mean and its scatter.

An image is a group of one; with least squares a whole class may be one group, and the loss and its
gradient stay exact: sum_i ||x_i - f||^2 = n ||mean - f||^2 + scatter.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from demjax import processes
from demjax.data.dataset import Dataset
from demjax.data.picked import Picked, read_rows
from demjax.data.splits import by_class

CLASSES = 8  # that a process sums up in its turn

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
    """One row per seen class: mean, number of images, sum of squared distances to the mean.

    Of a mapped file they are made when they are first asked for, every process reading the images of its classes.
    """
    ids = dataset.splits["trainval"]
    images = [of_class for _, of_class in by_class(ids, dataset.labels)]

    def summed(some: slice) -> tuple[np.ndarray, np.ndarray]:
        means, scatters = [], []
        for of_class in images[some]:  # class by class: no float64 copy of all features at once
            x = read_rows(dataset.features, of_class).astype(np.float64)
            means.append(x.mean(axis=0))
            scatters.append(np.square(x - means[-1]).sum())
        return np.array(means, np.float32), np.array(scatters, np.float32)

    n, width = len(images), dataset.features.shape[1]
    known = {"label": dataset.seen, "weight": np.array([len(x) for x in images], np.float32)}
    if not dataset.is_mapped:
        means, scatter = summed(slice(n))
        return _with_empty_row(features=means, scatter=scatter, **known)
    like = np.zeros((0, width), np.float32), np.zeros(0, np.float32)
    found: list[tuple[np.ndarray, ...]] = []

    def sums(check: Callable[[], Any]) -> tuple[np.ndarray, ...]:
        if not found:
            found.append(processes.share_rows(n, CLASSES, summed, like, check))
        return found[0]

    made = {"features": Made((n + 1, width), lambda c: sums(c)[0]), "scatter": Made((n + 1,), lambda c: sums(c)[1])}
    return _with_empty_row(**known) | made


def classes(dataset: Dataset) -> Rows:
    """One row per seen class, its number only: a step draws some classes, and the loss an image of each."""
    return _with_empty_row(label=dataset.seen, weight=np.ones(len(dataset.seen), np.float32))


BATCHING = {"examples": examples, "class_sums": class_sums, "classes": classes}


class Made:
    """Rows that are made when they are first asked for, by all processes; and an empty one behind them."""

    def __init__(self, shape: tuple[int, ...], make: Callable[[Callable[[], Any]], np.ndarray]):
        self.shape, self.dtype, self._make = shape, np.dtype(np.float32), make
        self._made: np.ndarray | None = None

    def made(self, check: Callable[[], Any] = lambda: None) -> np.ndarray:
        """The rows; `check` is called between the parts of the work, in all processes, and may raise."""
        if self._made is None:
            rows = self._make(check)
            self._made = np.concatenate([rows, np.zeros_like(rows[:1])])
        return self._made

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: Any) -> np.ndarray:
        return self.made()[places]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.made(), dtype) if copy else np.asarray(self.made(), dtype)


def _with_empty_row(**rows: Any) -> Rows:
    """Appends a row of zeros: weight 0 counts for nothing, so incomplete batches are padded with its id."""
    rows["label"] = rows["label"].astype(np.int32)
    return {k: v if isinstance(v, Picked) else np.concatenate([v, np.zeros_like(v[:1])]) for k, v in rows.items()}
