"""The Dataset record: checked arrays, classes by name, splits, fingerprints."""

import dataclasses
import hashlib
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from demjax.checks import UserError, choose, listed
from demjax.data import splits as splits_lib
from demjax.data.captions import Captions
from demjax.data.survey import not_finite, survey

# How semantic vectors enter the network: name -> function of the [c, a] table.
SCALES = {
    "none": lambda s: s,
    "unit": lambda s: _unit_rows(s),
    "sqrt": lambda s: _unit_rows(s) * np.sqrt(s.shape[1]),  # norm sqrt(a): entries of about 1
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images as feature vectors, classes as semantic vectors, and who may see what.

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
      descriptions: sentences of every class, where they are known; some may be of single images.
      images: names of the images, where they are known; () else.
      parts: columns of each source in `semantics`, by name and in order; {} where there is only one.
      splits: 0-based image ids of trainval, test_seen, test_unseen, train and val.
      version: of the split file: `ps1`, `ps2`, `custom` or `rebuilt`; `planted`; `+val` on a validation view.
      sources: where the parts come from (names of feature and semantics files), for provenance.
      bayes: best reachable metrics, where the set knows them.
    """

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
        check_classes(self.classes, self.semantics)
        if self.parts and sum(self.parts.values()) != self.semantics.shape[1]:
            told = f"{sum(self.parts.values())} columns by {dict(self.parts)}"
            raise UserError(f"semantics have {self.semantics.shape[1]} columns: expected {told}")
        _check_features(self.features, self.labels, self.classes)
        if self.images and len(self.images) != len(self.labels):
            raise UserError(f"{len(self.images)} image names for {len(self.labels)} images: expected one for each")
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
    def is_validation_view(self) -> bool:
        """Whether this is a view without any test image, where settings may be looked for."""
        return "+val" in self.version

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """First 16 hex digits of the SHA-256 of features, semantics and splits (with class names).

        Of a mapped file every process reads its share: all must ask.
        """
        x = self.features
        features = (survey(x).digest,) if isinstance(x, np.memmap) else x
        return {
            "features": digest(features, self.labels),
            "semantics": digest(self.semantics, self.classes),
            "splits": digest(self.classes, *(v for _, v in sorted(self.splits.items()))),
        } | ({} if self.descriptions is None else {"descriptions": _digest_of_captions(self.descriptions)})

    def validation_view(self, share: float = 0.2, seed: int = 0, fold: int = 1) -> "Dataset":
        """This set as if nothing beyond trainval existed: no test image, no unseen class, in no array.

        Only the features of a mapped file stay where they are, with those of images that no split names.

        The val classes play the unseen ones; of the train classes `share` of the images of each class play
        test_seen. Settings chosen here have not met the test. Seed-independent unless asked. Folds beyond the first
        hold out as many seen classes, drawn by the SHA-256 of their names.

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
        empty = np.array([], np.int64)
        classes, described = tuple(self.classes[c] for c in kept), self.descriptions
        described = described and described.view(kept, images, classes)
        if self.is_mapped:
            images, described = np.arange(len(self.labels)), described and described.placed(images)
        labels = np.searchsorted(kept, self.labels[images]) % len(kept)  # of other classes, in a mapped file: any
        roles = {"trainval": fit, "test_seen": held, "test_unseen": val, "train": empty, "val": empty}
        return Dataset(
            name=self.name,
            features=self.features if self.is_mapped else self.features[images],
            labels=labels,
            classes=classes,
            semantics=self.semantics[kept],
            splits={role: np.searchsorted(images, ids) for role, ids in roles.items()},
            version=f"{self.version}+val" + (str(fold) if fold > 1 else ""),
            sources=self.sources,
            parts=self.parts,
            descriptions=described,
            images=tuple(self.images[i] for i in images) if self.images else (),
        )

    def tables(self, scale: str = "none") -> dict[str, np.ndarray]:
        """The semantic table [c, a_i] of each source by name, scaled on its own (`scale_semantics`)."""
        parts = self.parts or {"semantics": self.semantics.shape[1]}
        ends = np.cumsum(list(parts.values()))
        blocks = np.split(self.semantics, ends[:-1], axis=1)
        return {name: scale_semantics(block, scale) for name, block in zip(parts, blocks, strict=True)}

    def table(self, scale: str = "none") -> np.ndarray:
        """One semantic table [c, a], each source scaled on its own."""
        return np.concatenate(list(self.tables(scale).values()), axis=1)


def scale_semantics(semantics: np.ndarray, how: str) -> np.ndarray:
    """The [c, a] table scaled by `none`, `unit` (rows of norm 1) or `sqrt` (norm sqrt(a)), as float32."""
    return choose("semantics scale", how, SCALES)(np.asarray(semantics, np.float64)).astype(np.float32)


def _unit_rows(s: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(s, axis=1, keepdims=True)
    return s / np.where(norm > 0, norm, 1.0)


def check_classes(classes: tuple[str, ...], semantics: np.ndarray) -> None:
    """The promises about classes that every Dataset keeps.

    Raises:
      UserError: naming the class.
    """
    doubled = sorted({name for name in classes if classes.count(name) > 1}) if len(set(classes)) < len(classes) else []
    if doubled:
        raise UserError(f"class names stand twice: {listed(doubled)}; names must be unique")
    if semantics.ndim != 2 or len(semantics) != len(classes):
        raise UserError(f"semantics have shape {semantics.shape}: expected one row for each of {len(classes)} classes")
    bad = np.flatnonzero(~np.isfinite(semantics).all(axis=1))
    if len(bad):
        raise UserError(f"semantic vector of class {classes[bad[0]]!r} has NaN or Inf ({len(bad)} such classes)")


def _check_features(features: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    if features.ndim != 2 or len(features) != len(labels):
        hint = "; they look transposed" if features.ndim == 2 and features.shape[1] == len(labels) else ""
        raise UserError(f"features have shape {features.shape}: expected [{len(labels)} images, width]{hint}")
    if features.dtype != np.float32:
        raise UserError(f"features are {features.dtype}: expected float32; convert with .astype('float32')")
    bad = not_finite(features[:0] if isinstance(features, np.memmap) else features)
    if len(bad):
        raise UserError(
            f"features of image {bad[0]} (0-based row) hold NaN or Inf ({len(bad)} such rows): "
            "extract these images again or take them out"
        )
    outside = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(outside):
        raise UserError(
            f"image {outside[0]} (0-based row) has label {labels[outside[0]]} (0-based): "
            f"expected 0 to {len(classes) - 1}, the rows of the class table"
        )


def _digest_of_captions(captions: Captions) -> str:
    text = "\n".join(captions.sentences).encode()
    return digest(np.frombuffer(text, np.uint8), captions.image, captions.count)


def digest(*parts) -> str:
    """First 16 hex digits of the SHA-256 of arrays (with type and shape) and sequences of text."""
    sha = hashlib.sha256()
    for part in parts:
        array = np.ascontiguousarray(part) if isinstance(part, np.ndarray) else np.array(list(part), dtype="U")
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(array.view(np.uint8).data if array.size else b"")
    return sha.hexdigest()[:16]
