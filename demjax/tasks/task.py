"""The contract between a paper and the engine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from demjax.data.class_set import ClassSet as Dataset

Params = Any
Batch = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """A system for zero-shot learning as pure functions, bound to the shapes of one data set.

    Attributes:
      name: of the family.
      score: how queries and gallery meet: `euclidean`, `cosine` or `dot`.
      direction: which side is embedded, for reports: `semantic->visual` ...
      queries: (params, features [q, d]) -> [q, d], or [q, m, d] for m vectors per image: the best of them counts.
      gallery: (params, dataset, class ids [g]) -> [g, d].
      fields: row fields the loss reads; the engine gathers and shards these only.
      tables: constant arrays handed to the loss whole, beside the rows of each batch.
      numbers: which of the tables are settings of the loss, single numbers: the members of a population may differ
        in them (train/population.py).
      init: (key) -> params. With `solve` not needed.
      loss: (params, batch, key, axis) -> (sum, count, {name: sum}). Local and un-normalised: the engine
        sums over the mesh axis `axis` and divides once by the global count, so padding (weight 0) and
        uneven batches bias nothing. batch["row"] has the number of each row, its place in the
        trainval split where rows are images: draw from fold_in(key, row), and the draw is the same on any number of
        devices.
      solve: () -> params, in closed form, instead of `init` and `loss`.
      vectors: m, how many vectors `queries` gives for an image; hub corrections for several: `hubness.SEVERAL`.
      protocols: evaluations that apply: `zsl`, `gzsl`, `retrieval`.
      rows: what the rows of its batches may be (data/batches.py): images, sums over classes, or classes.
      encode: (params, n sentences) -> blocks of [.., d], n rows in all: systems that read text, in the space of the
        gallery.
      report: what of n sentences is unknown to it, in one line.
      notes: what a person should know before a run, a line each.
      fingerprint: of what it read itself, beside the data set; a checkpoint must agree on it.
    """

    name: str
    score: str
    direction: str
    queries: Callable[[Params, Any], Any]
    gallery: Callable[[Params, Dataset, Any], Any]
    fields: tuple[str, ...] = ("features", "label", "weight")
    tables: Mapping[str, Any] = field(default_factory=dict)
    numbers: tuple[str, ...] = ()
    init: Callable[[Any], Params] | None = None
    loss: Callable[[Params, Batch, Any, str], tuple[Any, Any, dict[str, Any]]] | None = None
    solve: Callable[[], Params] | None = None
    protocols: tuple[str, ...] = ("zsl", "gzsl")
    rows: tuple[str, ...] = ("examples",)
    encode: Callable[[Params, Sequence[str]], Iterator[Any]] | None = None
    report: Callable[[Sequence[str]], str] | None = None
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    vectors: int = 1
