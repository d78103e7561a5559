"""Embed, search, count: the protocols of zero-shot evaluation, with and without calibration and hub correction."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from demjax import hubness, metrics
from demjax.checks import UserError, choose
from demjax.data import Dataset
from demjax.hubness import CORRECTIONS, SEVERAL
from demjax.mesh import local_mesh, localise, replicate
from demjax.tasks import Task
from demjax.train.answers import Answers
from demjax.train.answers import Options as Options
from demjax.train.text_evaluation import retrieval_metrics

DEFAULT = Options()
AUTO = "auto"


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


def _zsl(answers: Answers, corrected: bool) -> Evaluation:
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


def _gzsl(answers: Answers, corrected: bool) -> Evaluation:
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
    if answers.dataset.is_validation_view:  # here, and only here, the best penalty may be looked for
        best = metrics.best_harmonic(curve)
        result |= {"gzsl/best_harmonic": best.harmonic, "gzsl/best_penalty": best.gamma / answers.deviation}
    penalty = (answers.options.penalty or {}).get("corrected" if corrected else "")
    if penalty is not None:
        point = metrics.at_gamma(curve, penalty * answers.deviation)
        result |= {
            "gzsl_calibrated/unseen": point.unseen,
            "gzsl_calibrated/seen": point.seen,
            "gzsl_calibrated/harmonic": point.harmonic,
            "gzsl_calibrated/penalty": penalty,
        }
    some = np.unique(np.linspace(0, len(curve.gamma) - 1, 101).astype(int))
    return Evaluation(result, curve={"unseen": curve.unseen[some].tolist(), "seen": curve.seen[some].tolist()})


def _side(answers: Answers, split: str, corrected: bool) -> tuple[np.ndarray, metrics.Gaps]:
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


def _retrieval(answers: Answers, corrected: bool) -> Evaluation:
    """Text to image and back among the unseen classes; not corrected."""
    return Evaluation({} if corrected else retrieval_metrics(answers))


PROTOCOLS: dict[str, Callable[[Answers, bool], Evaluation]] = {"zsl": _zsl, "gzsl": _gzsl, "retrieval": _retrieval}
METRICS = (
    *("zsl/top1", "zsl/micro", "hubness/n1_skewness"),
    *("gzsl/unseen", "gzsl/seen", "gzsl/harmonic", "gzsl/unseen_micro", "gzsl/seen_micro", "gzsl/ausuc"),
)
ON_VALIDATION = ("gzsl/best_harmonic", "gzsl/best_penalty")


def evaluate(
    task: Task, params: Any, dataset: Dataset, options: Options = DEFAULT, mesh: Mesh | None = None, check=lambda: None
) -> Evaluation:
    """Runs every protocol of the task, in float32 at the highest matrix precision.

    With a correction every metric appears a second time, as "corrected/zsl/top1" and so on. But for the
    rounding of what is embedded the numbers do not depend on `mesh`, the devices of all processes (default: one
    device), nor on how many processes share the work.
    `check` is called between blocks of images and may raise to end the evaluation.

    Raises:
      UserError: as of `check_options`.
    """
    options = check_options(options, task, dataset)
    with jax.default_matmul_precision("highest"):
        params = localise(params)
        if mesh:
            params = replicate(params, local_mesh(mesh))
        answers = Answers(task, params, dataset, options, mesh, check)
        parts = [PROTOCOLS[name](answers, False) for name in task.protocols]
        again = [PROTOCOLS[name](answers, True) for name in task.protocols] if options.correction else []
    merged = [{k: v for p in parts for k, v in getattr(p, name).items()} for name in Evaluation.__dataclass_fields__]
    corrected = {f"corrected/{k}": v for p in again for k, v in p.metrics.items()}
    return Evaluation(merged[0] | corrected, *merged[1:])


def correction_for(score: str) -> str:
    """The hub correction with one statistic on either side that fits a score: `evaluate.correction=auto`."""
    return {"cosine": "csls", "dot": "csls", "euclidean": "nicdm"}[score]


def check_options(options: Options, task: Task, dataset: Dataset) -> Options:
    """Finds before a training what would end the evaluation after it; `auto` becomes the correction that it means.

    Raises:
      UserError: an unknown correction or tie rule; hits beyond the unseen classes; a correction for another score than
        the task's, or for one vector an image where the task has several; captions of a task that reads none.
    """
    if options.correction == AUTO:
        options = options._replace(correction=correction_for(task.score))
    choose("evaluate.ties", options.ties, metrics.TIES)
    for ks in (options.hits, options.captions):
        if ks:
            metrics.check_ks(ks)
    if options.hits and max(options.hits) > len(dataset.unseen):
        raise UserError(
            f"evaluate.hits has {max(options.hits)}: expected at most the {len(dataset.unseen)} unseen classes"
        )
    if options.captions and (task.encode is None or "retrieval" not in task.protocols):
        raise UserError(f"evaluate.captions is {options.captions}: task {task.name} reads no sentences here")
    if options.correction:
        method = choose("evaluate.correction", options.correction, CORRECTIONS)
        if task.score not in method.scores:
            fitting = ", ".join(name for name, m in CORRECTIONS.items() if task.score in m.scores)
            raise UserError(
                f"evaluate.correction {options.correction!r} is for {' or '.join(method.scores)} scores, task "
                f"{task.name} answers by {task.score}: expected {fitting}"
            )
        if task.vectors > 1 and options.correction not in SEVERAL:
            raise UserError(
                f"evaluate.correction {options.correction!r} is for one vector an image, task {task.name} has "
                f"{task.vectors}: expected {' or '.join(m for m in SEVERAL if task.score in CORRECTIONS[m].scores)}"
            )
    return options
