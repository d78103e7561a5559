"""ClassSet: one label an image, classes by name with vectors and sentences, splits, fingerprints."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from demjax.checks import UserError
from demjax.data import splits as splits_lib
from demjax.data.class_checks import check_classes, check_images
from demjax.data.dataset import Spec
from demjax.data.fingerprints import digest, fingerprint_file
from demjax.data.lazy_rows import read_rows
from demjax.data.semantics import scale_semantics as scale_semantics
from demjax.data.text.captions import Caption, Captions, arrange, generate
from demjax.data.text.vocabulary import vocabulary

GENERATED = "generated"  # the source of captions that list attributes of the class table


@dataclasses.dataclass(frozen=True)
class ClassSet:
    """Images as feature vectors, classes as semantic vectors, and who may see what. A `Dataset`.

    Built only if these promises hold, else UserError: features are finite float32, one row per label;
    labels are rows of the class table; class names are unique; one semantic vector per class, finite;
    splits hold no image twice and none in common; classes of trainval (seen) and test_unseen (unseen) are
    disjoint, so are those of train and val; test_seen has seen classes only; every class has images. Whether the
    features of a mapped file are finite is seen when the `fingerprints` are first asked for, as every run does.

    Attributes:
      name: for reports.
      features: [n, d], n images in the visual space.
      labels: [n], 0-based rows of the class table.
      classes: c unique names.
      semantics: [c, a], the vector that describes each class, as the source has it; several sources side by side.
      descriptions: sentences of every class, where they are known; a sentence may be of a single image.
      images: names of the images, where they are known; () else.
      parts: columns of each source in `semantics`, by name and in order; {} where there is only one.
      splits: 0-based image ids of trainval, test_seen, test_unseen, train and val.
      version: of the split file: `ps1`, `ps2`, `custom` or `rebuilt`; `planted`; `+val` on a validation view.
      sources: where the parts come from (names of feature and semantics files), for provenance.
    """

    training: ClassVar[str] = "trainval"

    name: str
    features: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    semantics: np.ndarray
    splits: Mapping[str, np.ndarray]
    version: str = "custom"
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    bayes: Mapping[str, float] = dataclasses.field(default_factory=dict)
    parts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    descriptions: Captions | None = None
    images: tuple[str, ...] = ()

    def __post_init__(self):
        check_classes(self.classes, self.semantics, self.parts)
        check_images(self.features, self.labels, self.classes, self.images)
        splits_lib.check_splits(self.splits, self.labels, self.classes)

    @cached_property
    def seen(self) -> np.ndarray:
        """Ids of the classes with training images, ascending."""
        return splits_lib.classes_of(self.splits["trainval"], self.labels)

    @cached_property
    def unseen(self) -> np.ndarray:
        """Ids of the classes known by their description only, ascending."""
        return splits_lib.classes_of(self.splits["test_unseen"], self.labels)

    @property
    def is_mapped(self) -> bool:
        """Whether the features are a mapped file, which may be larger than memory."""
        return isinstance(self.features, np.memmap)

    @property
    def mapped(self) -> tuple[np.memmap, ...]:
        """The columns that are mapped files: a run reads them once for their fingerprints, before anything else."""
        return (self.features,) if isinstance(self.features, np.memmap) else ()

    @property
    def is_validation_view(self) -> bool:
        """Whether this is a view without any test image, where settings may be looked for."""
        return "+val" in self.version

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """First 16 hex digits of the SHA-256 of features, semantics and splits (with class names).

        Of a mapped file every process reads its share: all must ask.
        """
        x = self.features
        features = (fingerprint_file(x).digest,) if isinstance(x, np.memmap) else x
        return {
            "features": digest(features, self.labels),
            "semantics": digest(self.semantics, self.classes),
            "splits": digest(self.classes, *(v for _, v in sorted(self.splits.items()))),
        } | ({} if self.descriptions is None else {"descriptions": self.descriptions.fingerprint})

    @cached_property
    def spec(self) -> Spec:
        """Shapes, names and settings without the rows."""
        shapes = {"features": self.features.shape[1:], "semantics": self.semantics.shape[1:]}
        captions, images = self.descriptions, self.splits["trainval"]
        words = vocabulary(captions.sentences[i] for i in captions.trained_on(images, self.seen)) if captions else ()
        return Spec(
            name=self.name,
            kind="ClassSet",
            columns={side: {name: shapes.get(name, ()) for name in of_side} for side, of_side in self._sides.items()},
            parts=dict(self.parts),
            classes=self.classes,
            seen=tuple(self.seen.tolist()),
            unseen=tuple(self.unseen.tolist()),
            vocabulary=words,
            has_captions=captions is not None,
        )

    def summary(self) -> str:
        """Counts of images, features, classes, semantics and descriptions, in one line for people."""
        line = (
            f"{self.name} ({self.version}): {len(self.labels)} images x {self.features.shape[1]} features, "
            f"{len(self.seen)} seen and {len(self.unseen)} unseen classes x {self.semantics.shape[1]} semantics"
        )
        if self.descriptions is None:
            return line
        source = self.sources.get("descriptions", "of no named source")
        return f"{line}, {len(self.descriptions.sentences):,} descriptions ({source})"

    @property
    def _sides(self) -> dict[str, dict[str, Callable[[np.ndarray], Any]]]:
        """{side: {column: function of ids [n]}}; sentences only where there are captions."""
        captions, semantics = self.descriptions, self.semantics
        sides: dict[str, dict[str, Callable[[np.ndarray], Any]]] = {
            "image": {"features": lambda ids: read_rows(self.features, ids)},
            "class": {"id": lambda ids: ids.copy(), "semantics": lambda ids: semantics[ids]},
        }
        if captions is not None:
            sides["class"]["sentences"] = lambda ids: tuple(captions.of_class(c) for c in ids.tolist())
            sides["text"] = {
                "sentences": lambda ids: tuple(captions.sentences[i] for i in ids.tolist()),
                "label": lambda ids: captions.label[ids],
                "semantics": lambda ids: semantics[captions.label[ids]],
            }
        return sides

    def ids(self, side: str, split: str) -> np.ndarray:
        """Ids [n] of a side: of images in a split; of classes `all`, `seen` or `unseen`; of the sentences of those.

        Sentences are numbered class by class, as `descriptions` has them. A UserError lists the sides or splits that
        there are.
        """
        _one_of(f"{self.name} has no side {side!r}", side, self._sides)
        classes = {"all": np.arange(len(self.classes)), "seen": self.seen, "unseen": self.unseen}
        splits = self.splits if side == "image" else classes
        chosen = _one_of(f"side {side} of {self.name} has no split {split!r}", split, splits)
        return self.descriptions.rows_of(chosen) if side == "text" and self.descriptions else chosen

    def items(self, side: str, ids: np.ndarray, columns: Iterable[str]) -> dict[str, Any]:
        """The columns of the items `ids` [n] of a side, by name; arrays are copies.

            image  features [n, d]
            class  id [n]; semantics [n, a], not scaled; sentences: n tuples, all sentences of each class
            text   sentences: n texts; label [n]: the class of each; semantics [n, a]: the vector of that class

        Raises a UserError as `ids`; an OSError if the features are a mapped file that is gone, or shorter than it was.
        """
        of_side = _one_of(f"{self.name} has no side {side!r}", side, self._sides)
        read = {c: _one_of(f"side {side} of {self.name} has no column {c!r}", c, of_side) for c in columns}
        return {column: rows_of(np.asarray(ids)) for column, rows_of in read.items()}

    def class_vectors_by_source(self, scale: str = "none") -> dict[str, np.ndarray]:
        """The class vectors [c, a_i] of each source by name, scaled each on their own (`scale_semantics`)."""
        parts = self.parts or {"semantics": self.semantics.shape[1]}
        blocks = np.split(self.semantics, np.cumsum(list(parts.values()))[:-1], axis=1)
        return {name: scale_semantics(block, scale) for name, block in zip(parts, blocks, strict=True)}

    def class_vectors(self, scale: str = "none") -> np.ndarray:
        """All class vectors [c, a], those of each source scaled on their own."""
        return scale_semantics(self.semantics, scale, self.parts)

    def with_descriptions(self, captions: Iterable[Caption], source: str) -> "ClassSet":
        """This set with captions from `source`, a name for provenance. Raises a UserError for a class without one."""
        sources = dict(self.sources) | {"descriptions": source}
        return dataclasses.replace(self, descriptions=arrange(captions, self.classes), sources=sources)

    def with_generated_descriptions(self) -> "ClassSet":
        """This set with sentences that list attributes of its class vectors (`captions.generate`)."""
        vectors = self.class_vectors()
        return self.with_descriptions(generate(vectors - min(0.0, float(vectors.min()))), GENERATED)

    def validation_view(self, fold: int = 1, *, share: float = 0.2, seed: int = 0) -> "ClassSet":
        """This set as if nothing beyond trainval existed: no test image, no unseen class, in no array.

        Only the features of a mapped file stay where they are, with those of images that no split names. Generated
        captions are generated anew, from the class vectors that are left.

        The val classes play the unseen ones; of the train classes `share` (in (0, 1)) of the images of each class, at
        least one, drawn by `seed`, play test_seen. Settings chosen here have not met the test. Folds beyond the first
        hold out as many seen classes, drawn by the SHA-256 of their names.

        Raises:
          UserError: no train or no val image; a class of a single training image; a class whose captions are all of
            other images.

        Reference: Le Cacheux, Le Borgne & Crucianu 2018, on choosing parameters for generalised ZSL.
        """
        train, val = self.splits["train"], self.splits["val"]
        if fold > 1:
            train, val = splits_lib.other_fold(splits_lib.ids_of(train, val), self.labels, self.classes, val, fold)
        if len(train) == 0 or len(val) == 0:
            raise UserError(f"{self.name} has {len(train)} train and {len(val)} val images: no validation fold")
        fit, held = splits_lib.hold_out(train, self.labels, share, seed, self.classes)
        images = splits_lib.ids_of(fit, held, val)
        kept = splits_lib.classes_of(images, self.labels)
        rows = np.arange(len(self.labels)) if self.is_mapped else images
        empty = np.array([], np.int64)
        roles = {"trainval": fit, "test_seen": held, "test_unseen": val, "train": empty, "val": empty}
        classes = tuple(self.classes[c] for c in kept)
        generated = self.sources.get("descriptions") == GENERATED
        captions = None if generated else self.descriptions
        view = ClassSet(
            name=self.name,
            features=self.features if self.is_mapped else self.features[rows],
            labels=np.searchsorted(kept, self.labels[rows]) % len(kept),  # of other classes, in a mapped file: any
            classes=classes,
            semantics=self.semantics[kept],
            splits={role: np.searchsorted(rows, ids) for role, ids in roles.items()},
            version=f"{self.version}+val" + (str(fold) if fold > 1 else ""),
            sources=self.sources,
            parts=self.parts,
            descriptions=captions and captions.view(kept, classes, images, rows),
            images=tuple(self.images[i] for i in rows) if self.images else (),
        )
        return view.with_generated_descriptions() if generated else view


def _one_of(message: str, key: str, options: Mapping[str, Any]) -> Any:
    if key not in options:
        hint = "; for sentences set data.descriptions" if key in ("text", "sentences") else ""
        raise UserError(f"{message}: it has {', '.join(options)}{hint}")
    return options[key]
