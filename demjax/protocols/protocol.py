"""The contract between an evaluation and the engine: what is measured, how it is shown, what may be selected by it."""

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from demjax.checks import UserError
from demjax.data.dataset import Dataset
from demjax.search import Score

Options = Mapping[str, Any]


class Column(NamedTuple):
    """A column of every table.

    Attributes:
      metric: whose numbers it shows.
      heading: above them.
      unit: "%": a fraction, shown times 100; "": a plain number.
      progress: whether the line of an epoch shows it, too.
    """

    metric: str
    heading: str
    unit: str = "%"
    progress: bool = False


class Result(NamedTuple):
    """What an evaluation gives.

    Attributes:
      metrics: numbers by name, `PROTOCOL/METRIC`; fractions, not percent. NaN is undefined.
      details: JSON values that lines and pictures need beside the metrics; report.json keeps them by protocol.
    """

    metrics: Mapping[str, float]
    details: Mapping[str, Any] = {}


@typing.runtime_checkable
class Embedder(typing.Protocol):
    """A data set seen through a trained task: every side embedded once, in blocks, and searched.

    All processes call every method, in the same order. Numbers do not depend on devices or processes but for the
    rounding of what is embedded.

    Attributes:
      dataset: what is evaluated.
      score: how queries and gallery meet.
      is_corrected: whether `nearest` applies the hub correction of the run.
    """

    dataset: Any
    score: Score
    is_corrected: bool

    @property
    def can_embed(self) -> tuple[str, ...]:
        """The sides that the task embeds."""
        ...

    def embed(self, side: str, split: str) -> np.ndarray:
        """All items of `dataset.ids(side, split)`, [n, d] or [n, m, d], in the memory of every process."""
        ...

    def over(self, side: str, split: str, work: Callable[..., tuple[np.ndarray, ...]], *like: np.ndarray) -> tuple:
        """work(embedded items, slice of the split) for block after block, joined; `like` are empty arrays of the types
        and row shapes of its results."""
        ...

    def nearest(
        self,
        split: str,
        candidates: np.ndarray | None = None,
        k: int = 1,
        *,
        queries: str = "image",
        gallery: tuple[str, str] = ("class", "all"),
    ) -> tuple[np.ndarray, np.ndarray]:
        """(ids [n, k], scores [n, k]) of the nearest gallery items of each query of a split; ties to the lowest id.

        Args:
          split: of the queries.
          candidates: places in the gallery, ascending, that may be answers; None: all. The ids are such places.
          queries: the side of the queries.
          gallery: side and split of the gallery.
        """
        ...

    def ranks(
        self,
        split: str,
        positives: np.ndarray,
        candidates: np.ndarray | None = None,
        *,
        ties: str = "lowest_id",
        queries: str = "image",
        gallery: tuple[str, str] = ("class", "all"),
    ) -> np.ndarray:
        """The rank [n], from 1, of the best of the `positives` [n, p] (places in the gallery, -1 fills up) of each
        query; arguments as for `nearest`."""
        ...

    def deviation(self) -> float:
        """The unit of penalties: the root mean square, over the images that are trained on, of the deviation of their
        scores over the gallery of classes. It follows the scale of a model, and looks at no test image."""
        ...

    def search(self, queries: Any, gallery: Any, k: int) -> Any:
        """`demjax.search.nearest` of any embedded arrays by the score of the task, on the devices of all processes."""
        ...

    def stop_point(self) -> None:
        """Called between parts of long work; raises where the run is asked to stop."""
        ...


def no_check(options: Options, task: Any, dataset: Dataset) -> None:
    """Accepts every option."""


def no_lines(metrics: Mapping[str, Any], details: Mapping[str, Any]) -> list[str]:
    """Says nothing."""
    return []


@dataclass(frozen=True)
class Protocol:
    """An evaluation as a value. `protocol(embedder, options)` runs it.

    Attributes:
      name: of the protocol, the prefix of its metrics.
      columns: of tables and of the line of an epoch, the most telling first.
      evaluate: (embedder, options) -> Result.
      objectives: metrics that a selection may maximise, the usual one first; () for none. Those in `tuned` and others
        that exist on a validation view only belong here, too.
      options: its settings in `config.evaluate` with their defaults.
      check: (options, task, dataset) -> None; raises UserError before the training for what would fail after it.
      tuned: {option: metric}: options that a run on the validation view finds, and the metric that holds the best value
        there; with `evaluate.calibrate` the final evaluation gets them.
      variants: {label: {metric: metric instead}}: rows of the table beside the plain one, shown where all are there.
      corrects: whether it runs a second time with the hub correction of the run, as `corrected/METRIC`.
      lines: (metrics, details) -> lines below the table, for people.
      draw: (matplotlib subfigure, metrics, details) -> None: its part of the picture; None: it has none.
    """

    name: str
    columns: tuple[Column, ...]
    evaluate: Callable[[Embedder, Options], Result]
    objectives: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[Options, Any, Any], None] = no_check
    tuned: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    corrects: bool = True
    lines: Callable[[Mapping[str, Any], Mapping[str, Any]], Sequence[str]] = no_lines
    draw: Callable[[Any, Mapping[str, Any], Mapping[str, Any]], None] | None = None

    def __call__(self, embedder: Embedder, options: Options) -> Result:
        """Runs the protocol. Raises a UserError where its function returns no Result of numbers."""
        result = self.evaluate(embedder, options)
        if not isinstance(result, Result):
            raise UserError(f"protocol {self.name} returns {type(result).__name__}: expected Result(metrics, details)")
        for name, value in result.metrics.items():
            if "/" not in name:
                raise UserError(
                    f"protocol {self.name} returns a metric {name!r}: expected a name as {self.name}/{name}"
                )
            if not isinstance(value, int | float | np.number):
                raise UserError(f"protocol {self.name} returns {name} = {value!r}: expected a number")
        return result._replace(metrics={name: float(value) for name, value in result.metrics.items()})
