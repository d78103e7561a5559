"""How to evaluate, and the answers: the nearest class of any images among any classes."""

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from demjax import hubness, metrics, processes
from demjax.data import Dataset
from demjax.data.picked import read_rows
from demjax.hubness import Correction
from demjax.mesh import local_mesh, spread
from demjax.search import moments, nearest, ranks
from demjax.tasks import Task

KEPT_BYTES = 2**30  # of the features of a split: a larger one is embedded anew, block by block, for every search


class Options(NamedTuple):
    """How to evaluate.

    Attributes:
      query_batch: images embedded at once.
      correction: a hub correction of `demjax.hubness`, `auto` for one that fits the score, "" for none; its bank is the
        seen training images: inductive.
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
    """Nearest class of any images among any classes; each image set and the gallery are embedded once.

    All processes call everything here. `check` is called in all of them between parts of the work, and may raise.
    """

    def __init__(
        self, task: Task, params: Any, dataset: Dataset, options: Options, mesh: Mesh | None = None, check=lambda: None
    ):
        """`mesh`: all devices, of all processes."""
        self.task, self.params, self.dataset, self.score, self.options = task, params, dataset, task.score, options
        self.mesh, self._own, self.check = mesh, mesh and local_mesh(mesh), check
        embed = jax.jit(task.queries)  # compiled once for all members of a population
        self._embed = lambda x: embed(params, x)
        self.gallery = task.gallery(params, dataset, np.arange(len(dataset.classes)))
        self._blocks: dict[tuple[str, int], jax.Array] = {}
        self._queries: dict[str, np.ndarray] = {}
        self._fitted: dict[str, Correction] = {}

    def block(self, split: str, some: slice) -> jax.Array:
        """Some images of `split`, embedded; those of a small split are embedded once and stay."""
        ids = self.dataset.splits[split]
        if (split, some.start) in self._blocks:
            return self._blocks[split, some.start]
        rows = read_rows(self.dataset.features, ids[some])
        block = self._embed(spread(rows, self.params))[: len(rows)]
        if self.dataset.features.shape[1] * 4 * len(ids) <= KEPT_BYTES:
            self._blocks[split, some.start] = block
        return block

    def queries(self, split: str) -> np.ndarray:
        """All images of `split`, embedded: in the memory of every process."""
        if split not in self._queries:
            image = jax.ShapeDtypeStruct((1, self.dataset.features.shape[1]), np.float32)
            like = np.zeros((0, *jax.eval_shape(self._embed, image).shape[1:]), np.float32)
            (self._queries[split],) = self.over(split, lambda queries, some: (np.asarray(queries),), like)
        return self._queries[split]

    def over(self, split: str, work: Callable, *like: np.ndarray) -> tuple[np.ndarray, ...]:
        """work(embedded images, which) for all images of `split`, block by block: features may be mapped and larger
        than memory. The processes share the blocks out; `like` are arrays of the types of the results."""

        def one(some: slice) -> tuple[np.ndarray, ...]:
            return work(self.block(split, some), some)

        return processes.share_rows(len(self.dataset.splits[split]), self.options.query_batch, one, like, self.check)

    def nearest(self, split: str, candidates: np.ndarray, corrected: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(class ids, scores) [n] of the nearest candidates; equally near ones go to the lowest id."""
        fitted, gallery = self._correction(split) if corrected else None, self.gallery[candidates]

        def search(queries: jax.Array, some: slice) -> tuple[np.ndarray, np.ndarray]:
            own = fitted and fitted._replace(
                query=tuple(x[some] for x in fitted.query), gallery=tuple(x[candidates] for x in fitted.gallery)
            )
            found = nearest(queries, gallery, k=1, score=self.score, mesh=self._own, correction=own)
            return np.asarray(found.ids[:, 0]), np.asarray(found.scores[:, 0])

        ids, scores = self.over(split, search, np.zeros(0, np.int32), np.zeros(0, np.float32))
        return candidates[ids], scores

    def _correction(self, split: str) -> Correction:
        """Fitted on all classes, with the seen training images as the bank: each answer knows no other test image.

        All processes search together, as in `text_evaluation`; elsewhere each has images of its own.
        """
        if split not in self._fitted:
            bank = self.queries("trainval")
            self.check()
            self._fitted[split] = hubness.fit(
                self.options.correction, self.queries(split), self.gallery, bank, score=self.score, mesh=self.mesh
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
        gallery = np.asarray(self.gallery)[candidates]

        def rank(queries: jax.Array, some: slice) -> tuple[np.ndarray]:
            truth = place[ids[some]][:, None]
            return (ranks(np.asarray(queries), gallery, truth, self.score, mesh=self._own, ties=options.ties),)

        (found,) = self.over("test_unseen", rank, np.zeros(0, np.int32))
        counts = metrics.hit_counts(found, data.labels[ids], options.hits, len(data.classes))
        for average, suffix in (("micro", ""), ("per_class", "_per_class")):
            values = metrics.hit_at_k(counts, average)
            result |= {f"{name}@{k}{suffix}": float(v) for k, v in zip(options.hits, values, strict=True)}
        return result

    @cached_property
    def deviation(self) -> float:
        """The unit of penalties: root mean square over training images of the deviation of their scores over the
        classes. It follows the scale of a model, and looks at no test image."""

        def deviations(queries: jax.Array, some: slice) -> tuple[np.ndarray]:
            if queries.ndim == 3:  # several vectors per image: any of them has the scale
                queries = queries[:, 0]
            _, std = moments(queries, self.gallery, self.score, mesh=self._own)
            return (np.asarray(std),)

        (std,) = self.over("trainval", deviations, np.zeros(0, np.float32))
        return math.sqrt(float(np.mean(np.square(std, dtype=np.float64)))) or 1.0
