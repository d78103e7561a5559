"""The contract between a paper and the engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from demjax.data.dataset import Dataset

Params = Any
Batch = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """A system for zero-shot learning as pure functions, bound to the shapes of one data set.

    Attributes:
      name: of the family.
      fields: row fields the loss reads; the engine gathers and shards these only.
      tables: constant arrays handed to the loss whole, beside the rows of each batch.
      score: how queries and gallery meet: `euclidean`, `cosine` or `dot`.
      direction: which side is embedded, for reports: `semantic->visual` ...
      init: (key) -> params.
      loss: (params, batch, key, axis) -> (sum, count, {name: sum}). Local and un-normalised: the engine
        sums over the mesh axis `axis` and divides once by the global count, so padding (weight 0) and
        uneven batches bias nothing.
      queries: (params, features [q, d]) -> [q, d].
      gallery: (params, dataset, class ids [g]) -> [g, d].
      protocols: evaluations that apply: `zsl`, `gzsl`.
      groups: whether a row may stand for a whole class (data/batches.py).
    """

    name: str
    fields: tuple[str, ...]
    score: str
    direction: str
    init: Callable[[Any], Params]
    loss: Callable[[Params, Batch, Any, str], tuple[Any, Any, dict[str, Any]]]
    queries: Callable[[Params, Any], Any]
    gallery: Callable[[Params, Dataset, Any], Any]
    protocols: tuple[str, ...]
    tables: Mapping[str, Any] = field(default_factory=dict)
    groups: bool = False
