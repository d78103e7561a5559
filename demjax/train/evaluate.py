"""Runs the protocols of a task over one embedder, with and without hub correction."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from demjax.checks import UserError, choose
from demjax.data import Dataset
from demjax.hubness import CORRECTIONS, SEVERAL
from demjax.hubness.fit import PAIRS
from demjax.protocols import default_options
from demjax.tasks import Task, Variables
from demjax.train.embedder import TaskEmbedder

AUTO = "auto"
CORRECTED = "corrected"


class Options(NamedTuple):
    """How to evaluate.

    Attributes:
      query_batch: images embedded at once.
      correction: a hub correction of `demjax.hubness`, `auto` for one that fits the score, "" for none; its bank is the
        images that are trained on: inductive.
      settings: of the protocols, as in `config.evaluate`.
      tuned: {"": {option: value}, "corrected": {...}}: options of the protocols that are best on a validation view,
        without and with correction.
    """

    query_batch: int = 4096
    correction: str = ""
    settings: Mapping[str, Any] = default_options()
    tuned: Mapping[str, Mapping[str, float]] = {}


class Evaluation(NamedTuple):
    """Metrics as fractions, and by protocol what tables and pictures need beside them (JSON values)."""

    metrics: Mapping[str, float]
    details: Mapping[str, Any] = {}


def evaluate(
    task: Task,
    variables: Variables,
    dataset: Dataset,
    options: Options | None = None,
    mesh: Mesh | None = None,
    stop_point: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Runs every protocol of the task, in float32 at the highest matrix precision.

    With a correction every metric of a protocol that can be corrected appears a second time, as "corrected/zsl/top1"
    and so on. But for the rounding of what is embedded the numbers do not depend on `mesh`, the devices of all
    processes (default: one device), nor on how many processes share the work.

    Raises:
      UserError: as of `check_options`.
      Exception: whatever `stop_point` raises; it is called between blocks of images.
    """
    options = check_options(options or Options(), task, dataset)
    settings = options.settings
    metrics: dict[str, float] = {}
    details: dict[str, Any] = {}
    with jax.default_matmul_precision("highest"):
        embedder = TaskEmbedder(
            task,
            variables,
            dataset,
            query_batch=options.query_batch,
            correction=options.correction,
            mesh=mesh,
            stop_point=stop_point,
        )
        for protocol in task.protocols:
            result = protocol(embedder, {**settings, **options.tuned.get("", {})})
            metrics |= result.metrics
            if result.details:
                details[protocol.name] = result.details
        corrected = embedder.corrected()
        for protocol in task.protocols:
            if options.correction and protocol.corrects:
                result = protocol(corrected, {**settings, **options.tuned.get(CORRECTED, {})})
                metrics |= {f"{CORRECTED}/{name}": value for name, value in result.metrics.items()}
    return Evaluation(metrics, details)


def options_of(config: ConfigDict, tuned: Mapping[str, Mapping[str, float]] | None = None) -> Options:
    """How the runs of a config evaluate."""
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, tuple | list) else v for k, v in config.evaluate.items()}
    del settings["query_batch"], settings["correction"]
    return Options(config.evaluate.query_batch, config.evaluate.correction, settings, tuned or {})


def tuned_options(task: Task, metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The options that protocols find on a validation view, from the metrics of an evaluation there."""
    wanted = {option: metric for protocol in task.protocols for option, metric in protocol.tuned.items()}
    tuned = {
        kind: {option: metrics[prefix + metric] for option, metric in wanted.items() if prefix + metric in metrics}
        for kind, prefix in (("", ""), (CORRECTED, f"{CORRECTED}/"))
    }
    return {kind: options for kind, options in tuned.items() if options}


def can_be_tuned(task: Task) -> bool:
    """Whether a protocol of the task has options that are chosen on a validation view."""
    return any(protocol.tuned for protocol in task.protocols)


def correction_for(kind: str) -> str:
    """The hub correction with one statistic on either side that fits a score: `evaluate.correction=auto`."""
    return {"cosine": "csls", "dot": "csls", "euclidean": "nicdm"}[kind]


def check_options(options: Options, task: Task, dataset: Dataset) -> Options:
    """Finds before a training what would end the evaluation after it; `auto` becomes the correction that it means.

    Raises:
      UserError: what a protocol refuses; an unknown correction, one for another score than the task's, or one for one
        vector an image where the task has several.
    """
    read = {name for protocol in task.protocols for name in protocol.options}
    for name, default in default_options().items():
        value = options.settings.get(name, default)
        if name not in read and value != default:
            known = f"no protocol of task {task.name} reads it, expected {default!r}"
            raise UserError(f"evaluate.{name} is {value!r}: {known}")
    for protocol in task.protocols:
        protocol.check(options.settings, task, dataset)
    correction = options.correction
    if correction == AUTO:
        correction = "csls" if task.pair else correction_for(task.score.kind)
    if correction:
        _check_correction(correction, task)
    return options._replace(correction=correction)


def _check_correction(correction: str, task: Task) -> None:
    kind, vectors = task.score.kind, task.score.vectors
    method = choose("evaluate.correction", correction, CORRECTIONS)
    if task.pair:
        if correction not in PAIRS:
            raise UserError(
                f"evaluate.correction {correction!r} is for products of vectors, task {task.name} compares pairs: "
                f"expected {' or '.join(PAIRS)}"
            )
        return
    if kind not in method.scores:
        fitting = ", ".join(name for name, m in CORRECTIONS.items() if kind in m.scores)
        raise UserError(
            f"evaluate.correction {correction!r} is for {' or '.join(method.scores)} scores, task {task.name} answers "
            f"by {kind}: expected {fitting}"
        )
    if vectors > 1 and correction not in SEVERAL:
        raise UserError(
            f"evaluate.correction {correction!r} is for one vector an image, task {task.name} has {vectors}: expected "
            f"{' or '.join(m for m in SEVERAL if kind in CORRECTIONS[m].scores)}"
        )
