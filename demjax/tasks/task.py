"""The contract between a paper and the engine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from demjax.data import Rows
from demjax.protocols import Protocol
from demjax.search import Score

Params = Any
State = Mapping[str, Any]
Batch = Mapping[str, Any]
Items = Mapping[str, Any]
Data = Any  # a demjax.data.Dataset of the kind that the task is for


class Variables(NamedTuple):
    """What a model consists of: everything that `Task.embed` reads beside the items, and all that a checkpoint keeps.

    Attributes:
      params: what training changes by gradients, or what `Task.solve` finds.
      state: arrays that gradients do not change: statistics of the training set, running averages; {} for most tasks.
    """

    params: Params
    state: State = {}


class Groups(NamedTuple):
    """Parameters that are optimised apart, and when each group begins to train.

    Attributes:
      label: params -> the same tree with the name of a group in place of each array.
      start: {group: epoch, from 0, in which it begins}; 0 for groups that are not named. Until then its parameters stay
        as they are, no gradient is computed for them, and its optimiser has no moments.
      rate: {group: factor on the learning rate}; 1 for groups that are not named.
    """

    label: Callable[[Params], Any]
    start: Mapping[str, int] = {}
    rate: Mapping[str, float] = {}


def no_statistics(dataset: Data) -> dict[str, Any]:
    """Nothing is kept of the training set."""
    return {}


READS = {"image": ("features",), "class": ("semantics",), "text": ("sentences",)}


@dataclass(frozen=True)
class Task:
    """A system as pure functions, built from the shapes of a data set (`demjax.data.Spec`) and its settings.

    Building one reads no rows, so that a trained model embeds new items without the data that it was trained on. What
    depends on rows is a function of the data set, and the engine calls it once.

    A task either trains (`init`, `loss`, `batchings`) or is solved in closed form (`solve`).

    Attributes:
      name: of the system.
      score: how queries and gallery meet.
      embed: {side: (variables, items) -> [n, d] or [n, m, d]}, with evaluation statistics. Sides of a ClassSet are
        `image`, `class` and `text`. The sides `image` and `text` are compiled and receive blocks of items; `class` is
        called with all classes at once and not compiled, its items are NumPy arrays or tuples of text. Where there is
        no side `class`, a class is the mean of its embedded sentences.
      reads: {side: names of the columns of its items}; default READS. Columns of text arrive as tuples of str, which
        `tokens` turns into arrays.
      tokens: {column of text: (sentences) -> [n, ...] array}, before the compiled `embed`.
      protocols: that judge it, in the order of the report.
      init: (key) -> Variables.
      loss: (variables, batch, key, axis) -> (sum, count, {name: sum}, state). Local and un-normalised: the engine sums
        over the mesh axis `axis` and divides once by the global count, so that padding (weight 0) and uneven batches
        bias nothing. The state must be that of the global batch, the same on all devices: reduce it over `axis`; a task
        without one returns `variables.state`. batch["row"] has the number of each row: draw from fold_in(key, row), and
        the draw is the same on any number of devices.
      fields: columns of the rows that the loss reads; the engine places and gathers these only.
      batchings: {name: (dataset) -> Rows}: what the rows of a batch may be (data/batches.py); the first is the default.
      constants: (dataset) -> {name: array} handed to the loss whole, in `batch`, beside the rows.
      sweepable: names of constants that are single numbers, settings of the loss: members of a population may differ
        in them.
      statistics: (dataset) -> {name: array}: what `embed` needs of the training set; becomes part of `variables.state`.
      groups: of the parameters; None: one group that trains from the start.
      solve: (dataset) -> Variables, in closed form, instead of `init` and `loss`.
      pair: (variables, queries [q, ...], gallery [g, ...]) -> [q, g], where a score is no product of two vectors; then
        `score` is not used.
      summary: how the sides meet, in a few words for the log: `semantic->visual`.
      notes: (dataset) -> what a person should know before a run, a line each.
      unread: (sentences) -> what of them the text side does not know, in one line, "" for nothing.
      fingerprint: (dataset) -> digest of what the task read itself, beside the data set; a checkpoint must agree on it.
    """

    name: str
    score: Score
    embed: Mapping[str, Callable[[Variables, Items], Any]]
    protocols: tuple[Protocol, ...]
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tokens: Mapping[str, Callable[[Sequence[str]], Any]] = field(default_factory=dict)
    init: Callable[[Any], Variables] | None = None
    loss: Callable[[Variables, Batch, Any, str], tuple[Any, Any, Mapping[str, Any], State]] | None = None
    fields: tuple[str, ...] = ("features", "label", "weight")
    batchings: Mapping[str, Callable[[Any], Rows]] = field(default_factory=dict)
    constants: Callable[[Any], Mapping[str, Any]] = no_statistics
    sweepable: tuple[str, ...] = ()
    statistics: Callable[[Any], Mapping[str, Any]] = no_statistics
    groups: Groups | None = None
    solve: Callable[[Any], Variables] | None = None
    pair: Callable[[Variables, Any, Any], Any] | None = None
    summary: str = ""
    notes: Callable[[Any], tuple[str, ...]] = lambda dataset: ()
    unread: Callable[[Sequence[str]], str] = lambda sentences: ""
    fingerprint: Callable[[Any], str] = lambda dataset: ""

    def columns(self, side: str) -> tuple[str, ...]:
        """The columns of the items of a side that `embed` reads."""
        return self.reads.get(side, READS.get(side, ()))
