"""How to evaluate, and the answers: the nearest class of any images among any classes."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from demjax import metrics, reduction
from demjax.data import Dataset
from demjax.hubness import Correction
from demjax.search import moments, nearest, ranks
from demjax.tasks import Task

KEPT_BYTES = 2**30  # of the features of a split: a larger one is embedded anew, block by block, for every search


class Options(NamedTuple):
    """How to evaluate.

    Attributes:
      query_batch: images embedded at once.
      correction: a hub correction of `demjax.hubness`, "" for none; its bank is the seen training images: inductive.
      hits: k of hit@k, () for none; flat, micro and per class, with the tie rule `ties` (`metrics.TIES`).
      penalty: {"": g, "corrected": g'}: what calibrated stacking takes off the scores of seen classes, in deviations of
        the scores (below), found on validation classes. None: no calibration.
      captions: n, ...: T1 with n random captions of each class, for systems that read text.
    """

    query_batch: int = 4096
    correction: str = ""
    penalty: Mapping[str, float] | None = None
    hits: tuple[int, ...] = ()
    ties: str = "lowest_id"
    captions: tuple[int, ...] = ()


class Answers:
    """Nearest class of any images among any classes; each image set and the gallery are embedded once."""

    def __init__(self, task: Task, params: Any, dataset: Dataset, options: Options):
        self.task, self.params, self.dataset, self.score, self.options = task, params, dataset, task.score, options
        embed = jax.jit(task.queries)  # compiled once for all members of a population
        self._embed = lambda x: embed(params, x)
        self.gallery = task.gallery(params, dataset, np.arange(len(dataset.classes)))
        self._queries: dict[str, jax.Array] = {}
        self._fitted: dict[str, Correction] = {}

    def blocks(self, split: str) -> Iterator[tuple[slice, jax.Array]]:
        """The images of `split`, embedded block by block: features may be mapped and larger than memory."""
        ids, size = self.dataset.splits[split], self.options.query_batch
        for start in range(0, len(ids), size):
            some = slice(start, min(start + size, len(ids)))
            yield some, self._embed(self.dataset.features[ids[some]])

    def queries(self, split: str) -> jax.Array:
        """All images of `split`, embedded."""
        if split not in self._queries:
            self._queries[split] = jnp.concatenate([block for _, block in self.blocks(split)])
        return self._queries[split]

    def parts(self, split: str) -> Iterable[tuple[slice, jax.Array]]:
        """As `blocks`; a small split is embedded once and stays."""
        if self.dataset.features.shape[1] * 4 * len(self.dataset.splits[split]) > KEPT_BYTES:
            return self.blocks(split)
        whole = self.queries(split)
        return [(slice(0, len(whole)), whole)]

    def nearest(self, split: str, candidates: np.ndarray, corrected: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(class ids, scores) [n] of the nearest candidates; equally near ones go to the lowest id."""
        fitted = self._correction(split) if corrected else None
        gallery, parts = self.gallery[candidates], []
        for some, queries in self.parts(split):
            own = fitted and fitted._replace(
                query=tuple(x[some] for x in fitted.query), gallery=tuple(x[candidates] for x in fitted.gallery)
            )
            found = nearest(queries, gallery, k=1, score=self.score, correction=own)
            parts.append((np.asarray(found.ids[:, 0]), np.asarray(found.scores[:, 0])))
        ids, scores = (np.concatenate(x) for x in zip(*parts, strict=True))
        return candidates[ids], scores

    def _correction(self, split: str) -> Correction:
        """Fitted on all classes, with the seen training images as the bank: each answer knows no other test image."""
        if split not in self._fitted:
            bank = self.queries("trainval")
            self._fitted[split] = reduction.fit(
                self.options.correction, self.queries(split), self.gallery, bank, score=self.score
            )
        return self._fitted[split]

    def count(self, split: str, predicted: np.ndarray) -> metrics.ClassCounts:
        """Right answers and images of each class, for the answers `predicted` to the images of `split`."""
        truth = self.dataset.labels[self.dataset.splits[split]]
        return metrics.class_counts(jnp.asarray(predicted), jnp.asarray(truth), len(self.dataset.classes))

    def hits(self, candidates: np.ndarray, name: str) -> dict[str, float]:
        """hit@k of the unseen test images among `candidates`, one block of images after the other."""
        data, options = self.dataset, self.options
        result: dict[str, float] = {}
        ids, place = data.splits["test_unseen"], np.searchsorted(candidates, data.labels)
        gallery, found = np.asarray(self.gallery)[candidates], []
        for some, queries in self.parts("test_unseen"):
            truth = place[ids[some]][:, None]
            found.append(ranks(np.asarray(queries), gallery, truth, self.score, ties=options.ties))
        counts = metrics.hit_counts(np.concatenate(found), data.labels[ids], options.hits, len(data.classes))
        for average, suffix in (("micro", ""), ("per_class", "_per_class")):
            values = metrics.hit_at_k(counts, average)
            result |= {f"{name}@{k}{suffix}": float(v) for k, v in zip(options.hits, values, strict=True)}
        return result

    def deviation(self) -> float:
        """The unit of penalties: root mean square over training images of the deviation of their scores over the
        classes. It follows the scale of a model, and looks at no test image."""
        squares = []
        for _, queries in self.parts("trainval"):
            if queries.ndim == 3:  # several vectors per image: any of them has the scale
                queries = queries[:, 0]
            _, std = moments(queries, self.gallery, self.score)
            squares.append(np.square(std, dtype=np.float64))
        return math.sqrt(float(np.mean(np.concatenate(squares)))) or 1.0
