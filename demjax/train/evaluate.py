"""Embed, search, count: the protocols of zero-shot evaluation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from demjax import hubness, metrics
from demjax.data import Dataset
from demjax.search import nearest
from demjax.tasks import Task


@dataclass(frozen=True)
class Evaluation:
    """Metrics as fractions, and what the pictures and tables need beside them.

    Attributes:
      metrics: {"zsl/top1": 0.53, ...}.
      unseen_accuracy: ZSL accuracy of each unseen class, by name.
      n1: how many unseen test images have each unseen class nearest (N_1), by name.
    """

    metrics: Mapping[str, float]
    unseen_accuracy: Mapping[str, float] = field(default_factory=dict)
    n1: Mapping[str, int] = field(default_factory=dict)


class _Answers:
    """Nearest class of any images among any classes; each image set and the gallery are embedded once."""

    def __init__(self, task: Task, params: Any, dataset: Dataset, query_batch: int):
        self.dataset, self._score, self._query_batch = dataset, task.score, query_batch
        self._embed = jax.jit(lambda x: task.queries(params, x))
        self._gallery = task.gallery(params, dataset, np.arange(len(dataset.classes)))
        self._queries: dict[str, jax.Array] = {}

    def nearest_class(self, split: str, candidates: np.ndarray) -> np.ndarray:
        """Class ids [n] of the nearest candidates; equally near ones go to the lowest id."""
        if split not in self._queries:
            features = self.dataset.features[self.dataset.splits[split]]
            starts = range(0, len(features), self._query_batch)
            blocks = [self._embed(features[i : i + self._query_batch]) for i in starts]
            self._queries[split] = jnp.concatenate(blocks)
        found = nearest(self._queries[split], self._gallery[candidates], k=1, score=self._score)
        return candidates[np.asarray(found.ids[:, 0])]

    def count(self, split: str, predicted: np.ndarray) -> metrics.ClassCounts:
        """Right answers and images of each class, for the answers `predicted` to the images of `split`."""
        truth = self.dataset.labels[self.dataset.splits[split]]
        return metrics.class_counts(jnp.asarray(predicted), jnp.asarray(truth), len(self.dataset.classes))


def _zsl(answers: _Answers) -> Evaluation:
    """Unseen test images among unseen classes: T1, and the hubness of that search (N_1)."""
    data = answers.dataset
    predicted = answers.nearest_class("test_unseen", data.unseen)
    counts = answers.count("test_unseen", predicted)
    ids = np.searchsorted(data.unseen, predicted)
    n1 = np.asarray(hubness.k_occurrence(jnp.asarray(ids)[:, None], len(data.unseen)))
    accuracy = np.asarray(counts.correct)[data.unseen] / np.asarray(counts.total)[data.unseen]
    names = [data.classes[c] for c in data.unseen]
    return Evaluation(
        {
            "zsl/top1": metrics.per_class_accuracy(counts),
            "zsl/micro": metrics.micro_accuracy(counts),
            "hubness/n1_skewness": hubness.k_skewness(n1),
        },
        unseen_accuracy=dict(zip(names, accuracy.tolist(), strict=True)),
        n1=dict(zip(names, n1.tolist(), strict=True)),
    )


def _gzsl(answers: _Answers) -> Evaluation:
    """Test images of seen and of unseen classes, each among all classes; no calibration."""
    everyone = np.arange(len(answers.dataset.classes))
    unseen, seen = (answers.count(s, answers.nearest_class(s, everyone)) for s in ("test_unseen", "test_seen"))
    u, s = metrics.per_class_accuracy(unseen), metrics.per_class_accuracy(seen)
    return Evaluation(
        {
            "gzsl/unseen": u,
            "gzsl/seen": s,
            "gzsl/harmonic": metrics.harmonic_mean(u, s),
            "gzsl/unseen_micro": metrics.micro_accuracy(unseen),
            "gzsl/seen_micro": metrics.micro_accuracy(seen),
        }
    )


PROTOCOLS: dict[str, Callable[[_Answers], Evaluation]] = {"zsl": _zsl, "gzsl": _gzsl}
METRICS = (
    *("zsl/top1", "zsl/micro", "hubness/n1_skewness"),
    *("gzsl/unseen", "gzsl/seen", "gzsl/harmonic", "gzsl/unseen_micro", "gzsl/seen_micro"),
)


def evaluate(task: Task, params: Any, dataset: Dataset, query_batch: int = 4096) -> Evaluation:
    """Runs every protocol of the task, in float32 at the highest matrix precision."""
    with jax.default_matmul_precision("highest"):
        answers = _Answers(task, params, dataset, query_batch)
        parts = [PROTOCOLS[name](answers) for name in task.protocols]
    merged = [{k: v for p in parts for k, v in getattr(p, name).items()} for name in Evaluation.__dataclass_fields__]
    return Evaluation(*merged)
