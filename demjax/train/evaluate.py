"""Embed, search, count: the protocols of zero-shot evaluation, with and without calibration and hub correction."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from demjax import hubness, metrics, reduction
from demjax.checks import UserError, choose
from demjax.data import Dataset
from demjax.hubness import CORRECTIONS, Correction
from demjax.search import moments, nearest, ranks
from demjax.tasks import Task


class Options(NamedTuple):
    """How to evaluate.

    Attributes:
      query_batch: images embedded at once.
      correction: a hub correction of `demjax.hubness`, "" for none; its bank is the seen training images: inductive.
      hits: k of hit@k, () for none; flat, micro and per class, with the tie rule `ties` (`metrics.TIES`).
      penalty: {"": g, "corrected": g'}: what calibrated stacking takes off the scores of seen classes, in deviations of
        the scores (below), found on validation classes. None: no calibration.
    """

    query_batch: int = 4096
    correction: str = ""
    penalty: Mapping[str, float] | None = None
    hits: tuple[int, ...] = ()
    ties: str = "lowest_id"


DEFAULT = Options()
KEPT_BYTES = 2**30  # of the features of a split: a larger one is embedded anew, block by block, for every search


@dataclass(frozen=True)
class Evaluation:
    """Metrics as fractions, and what the pictures and tables need beside them.

    Attributes:
      metrics: {"zsl/top1": 0.53, ...}.
      unseen_accuracy: ZSL accuracy of each unseen class, by name.
      n1: how many unseen test images have each unseen class nearest (N_1), by name.
      curve: {"unseen": [...], "seen": [...]}: the seen-unseen curve at 101 points at most.
    """

    metrics: Mapping[str, float]
    unseen_accuracy: Mapping[str, float] = field(default_factory=dict)
    n1: Mapping[str, int] = field(default_factory=dict)
    curve: Mapping[str, list[float]] = field(default_factory=dict)


class _Answers:
    """Nearest class of any images among any classes; each image set and the gallery are embedded once."""

    def __init__(self, task: Task, params: Any, dataset: Dataset, options: Options):
        self.dataset, self.score, self.options = dataset, task.score, options
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

    def _parts(self, split: str) -> Iterable[tuple[slice, jax.Array]]:
        """As `blocks`; a small split is embedded once and stays."""
        if self.dataset.features.shape[1] * 4 * len(self.dataset.splits[split]) > KEPT_BYTES:
            return self.blocks(split)
        whole = self.queries(split)
        return [(slice(0, len(whole)), whole)]

    def nearest(self, split: str, candidates: np.ndarray, corrected: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(class ids, scores) [n] of the nearest candidates; equally near ones go to the lowest id."""
        fitted = self._correction(split) if corrected else None
        gallery, parts = self.gallery[candidates], []
        for some, queries in self._parts(split):
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
        for some, queries in self._parts("test_unseen"):
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
        for _, queries in self._parts("trainval"):
            if queries.ndim == 3:  # several vectors per image: any of them has the scale
                queries = queries[:, 0]
            _, std = moments(queries, self.gallery, self.score)
            squares.append(np.square(std, dtype=np.float64))
        return math.sqrt(float(np.mean(np.concatenate(squares)))) or 1.0


def _zsl(answers: _Answers, corrected: bool) -> Evaluation:
    """Unseen test images among unseen classes: T1, and the hubness of that search (N_1)."""
    data = answers.dataset
    predicted, _ = answers.nearest("test_unseen", data.unseen, corrected)
    counts = answers.count("test_unseen", predicted)
    ids = np.searchsorted(data.unseen, predicted)
    n1 = np.asarray(hubness.k_occurrence(jnp.asarray(ids)[:, None], len(data.unseen)))
    accuracy = np.asarray(counts.correct)[data.unseen] / np.asarray(counts.total)[data.unseen]
    names = [data.classes[c] for c in data.unseen]
    hits = answers.hits(data.unseen, "zsl/hit") if answers.options.hits and not corrected else {}
    return Evaluation(
        {
            "zsl/top1": metrics.per_class_accuracy(counts),
            "zsl/micro": metrics.micro_accuracy(counts),
            "hubness/n1_skewness": hubness.k_skewness(n1),
        }
        | hits,
        unseen_accuracy=dict(zip(names, accuracy.tolist(), strict=True)),
        n1=dict(zip(names, n1.tolist(), strict=True)),
    )


def _gzsl(answers: _Answers, corrected: bool) -> Evaluation:
    """Test images of seen and of unseen classes, each among all classes; the whole curve of calibrated stacking."""
    sides = {s: _side(answers, s, corrected) for s in ("test_unseen", "test_seen")}
    unseen, seen = (answers.count(split, predicted) for split, (predicted, _) in sides.items())
    u, s = metrics.per_class_accuracy(unseen), metrics.per_class_accuracy(seen)
    curve = metrics.seen_unseen_curve(metrics.join_gaps([gaps for _, gaps in sides.values()]))
    result = {
        "gzsl/unseen": u,
        "gzsl/seen": s,
        "gzsl/harmonic": metrics.harmonic_mean(u, s),
        "gzsl/unseen_micro": metrics.micro_accuracy(unseen),
        "gzsl/seen_micro": metrics.micro_accuracy(seen),
        "gzsl/ausuc": metrics.ausuc(curve),
    }
    if answers.options.hits and not corrected:
        result |= answers.hits(np.arange(len(answers.dataset.classes)), "gzsl/hit")
    unit = answers.deviation()
    if answers.dataset.is_validation_view:  # here, and only here, the best penalty may be looked for
        best = metrics.best_harmonic(curve)
        result |= {"gzsl/best_harmonic": best.harmonic, "gzsl/best_penalty": best.gamma / unit}
    penalty = (answers.options.penalty or {}).get("corrected" if corrected else "")
    if penalty is not None:
        point = metrics.at_gamma(curve, penalty * unit)
        result |= {
            "gzsl_calibrated/unseen": point.unseen,
            "gzsl_calibrated/seen": point.seen,
            "gzsl_calibrated/harmonic": point.harmonic,
            "gzsl_calibrated/penalty": penalty,
        }
    some = np.unique(np.linspace(0, len(curve.gamma) - 1, 101).astype(int))
    return Evaluation(result, curve={"unseen": curve.unseen[some].tolist(), "seen": curve.seen[some].tolist()})


def _side(answers: _Answers, split: str, corrected: bool) -> tuple[np.ndarray, metrics.Gaps]:
    """Answers among all classes, and the gaps between the best seen and the best unseen one."""
    data = answers.dataset
    truth = data.labels[data.splits[split]]
    (seen, best_seen), (unseen, best_unseen) = (
        answers.nearest(split, side, corrected) for side in (data.seen, data.unseen)
    )
    tied = best_seen == best_unseen
    predicted = np.where(best_seen > best_unseen, seen, np.where(tied, np.minimum(seen, unseen), unseen))
    is_seen = np.full(len(truth), split == "test_seen")
    return predicted, metrics.gaps(best_seen, seen == truth, best_unseen, unseen == truth, truth, is_seen)


PROTOCOLS: dict[str, Callable[[_Answers, bool], Evaluation]] = {"zsl": _zsl, "gzsl": _gzsl}
METRICS = (
    *("zsl/top1", "zsl/micro", "hubness/n1_skewness"),
    *("gzsl/unseen", "gzsl/seen", "gzsl/harmonic", "gzsl/unseen_micro", "gzsl/seen_micro", "gzsl/ausuc"),
)
ON_VALIDATION = ("gzsl/best_harmonic", "gzsl/best_penalty")


def evaluate(task: Task, params: Any, dataset: Dataset, options: Options = DEFAULT) -> Evaluation:
    """Runs every protocol of the task, in float32 at the highest matrix precision.

    With a correction every metric appears a second time, as "corrected/zsl/top1" and so on.

    Raises:
      UserError: an unknown correction, or one for another score than the task's.
    """
    choose("evaluate.ties", options.ties, metrics.TIES)
    if options.hits:
        metrics.check_ks(options.hits)
    if options.correction:
        method = choose("evaluate.correction", options.correction, CORRECTIONS)
        if task.score not in method.scores:
            fitting = ", ".join(name for name, m in CORRECTIONS.items() if task.score in m.scores)
            raise UserError(
                f"evaluate.correction {options.correction!r} is for {' or '.join(method.scores)} scores, task "
                f"{task.name} answers by {task.score}: expected {fitting}"
            )
    with jax.default_matmul_precision("highest"):
        answers = _Answers(task, params, dataset, options)
        parts = [PROTOCOLS[name](answers, False) for name in task.protocols]
        again = [PROTOCOLS[name](answers, True) for name in task.protocols] if options.correction else []
    merged = [{k: v for p in parts for k, v in getattr(p, name).items()} for name in Evaluation.__dataclass_fields__]
    corrected = {f"corrected/{k}": v for p in again for k, v in p.metrics.items()}
    return Evaluation(merged[0] | corrected, *merged[1:])
