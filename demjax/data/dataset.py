"""What a data set is for tasks and engine: sides with columns, splits, fingerprints; and its shapes without rows."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from typing_extensions import Protocol, runtime_checkable  # isinstance of Python 3.11 would compute the fingerprints


@dataclasses.dataclass(frozen=True)
class Spec:
    """Shapes, names and settings of a data set without its rows. A task is built from a Spec alone.

    Attributes:
      name: of the data set, for reports.
      kind: of its record, "ClassSet".
      columns: {side: {column: shape of a row}}; () for numbers and for text.
      parts: how many columns of the semantics each source has, by name and in order; {} where there is one source.
      classes: c unique names; class ids are places in it.
      seen: ids of the classes with training images, ascending.
      unseen: ids of the classes without, ascending.
      vocabulary: sorted words of the captions that may be trained on; () where there are no captions.
      has_captions: whether classes are described by sentences.
    """

    name: str
    kind: str
    columns: Mapping[str, Mapping[str, tuple[int, ...]]]
    parts: Mapping[str, int]
    classes: tuple[str, ...]
    seen: tuple[int, ...]
    unseen: tuple[int, ...]
    vocabulary: tuple[str, ...] = ()
    has_captions: bool = False

    @property
    def n_features(self) -> int:
        """Width of an image's vector."""
        return self.columns["image"]["features"][-1]

    @property
    def n_semantics(self) -> int:
        """Width of a class vector, all sources side by side."""
        return self.columns["class"]["semantics"][-1]

    @property
    def n_classes(self) -> int:
        """Seen and unseen ones."""
        return len(self.classes)

    @property
    def n_seen(self) -> int:
        """Classes with training images."""
        return len(self.seen)

    def to_json(self) -> dict[str, Any]:
        """Values that JSON has; `Spec.from_json` makes an equal Spec of them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Spec":
        """The Spec whose `to_json` gave `value`, also if JSON was written and read between; a ValueError else."""
        names = {field.name for field in dataclasses.fields(cls)}
        if value.keys() != names:
            raise ValueError(f"a Spec has the fields {sorted(names)}, got {sorted(value)}")
        columns = {side: {name: tuple(shape) for name, shape in of.items()} for side, of in value["columns"].items()}
        sequences = {name: tuple(value[name]) for name in ("classes", "seen", "unseen", "vocabulary")}
        return cls(**{**value, **sequences, "columns": columns})


@runtime_checkable
class Dataset(Protocol):
    """Items on several sides (image, class, text), and which of them may be trained on.

    A record of this kind is immutable, and is built only if its promises hold.

    Attributes:
      name: for reports.
      version: of the splits: `ps1`, `ps2`, `custom`, `rebuilt`, `planted` ...; "+val" in it on a validation view.
      sources: where the parts come from, by part: names of files, for provenance.
      fingerprints: digests of the parts, 16 hex digits each. Of a mapped file every process reads its share: all must
        ask.
      splits: image ids, 0-based, of each split by name.
      bayes: the best metrics that can be expected, by metric; {} where they are unknown.
      training: name of the split of the images that are trained on.
      is_validation_view: whether this is a view without any test image, where settings may be looked for.
      spec: shapes, names and settings without the rows.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def sources(self) -> Mapping[str, str]: ...
    @property
    def fingerprints(self) -> Mapping[str, str]: ...
    @property
    def splits(self) -> Mapping[str, np.ndarray]: ...
    @property
    def bayes(self) -> Mapping[str, float]: ...
    @property
    def training(self) -> str: ...
    @property
    def is_validation_view(self) -> bool: ...
    @property
    def spec(self) -> Spec: ...

    def validation_view(self, fold: int = 1) -> "Dataset":
        """This set as if nothing beyond its training split existed. Raises a UserError where it has no such fold."""

    def ids(self, side: str, split: str) -> np.ndarray:
        """Ids [n] of the items of a side in a split. Raises a UserError for a side or split that it does not have."""

    def items(self, side: str, ids: np.ndarray, columns: tuple[str, ...]) -> dict[str, Any]:
        """{column: array [n, ...], or a tuple of n for text} of the items `ids` [n]. Raises a UserError, as `ids`."""

    def summary(self) -> str:
        """What the set is, in one line for people."""
