"""Sentences that describe classes, or single images of them."""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from demjax.checks import UserError, listed
from demjax.data.fingerprints import digest

OF_CLASS = -1  # in place of an image: the sentence describes the whole class


class Caption(NamedTuple):
    """A sentence, the class it describes and the image it was written for (or OF_CLASS), both by number."""

    label: int
    image: int
    sentence: str


@dataclasses.dataclass(frozen=True)
class Captions:
    """Sentences in the order of their classes; within a class those of the class itself, then image by image.

    Attributes:
      sentences: n of them.
      image: [n] the image of each, OF_CLASS for none.
      first, count: [c] where the sentences of each class begin, and how many there are (1 at least).
    """

    sentences: tuple[str, ...]
    image: np.ndarray
    first: np.ndarray
    count: np.ndarray

    @cached_property
    def label(self) -> np.ndarray:
        """[n] the class of each sentence."""
        return np.repeat(np.arange(len(self.count)), self.count)

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of sentences, images and counts."""
        return digest(np.frombuffer("\n".join(self.sentences).encode(), np.uint8), self.image, self.count)

    def of_class(self, number: int) -> tuple[str, ...]:
        """All sentences of a class, in order."""
        first = int(self.first[number])
        return self.sentences[first : first + int(self.count[number])]

    def rows_of(self, classes: np.ndarray) -> np.ndarray:
        """Numbers [m] of the sentences of classes [g], class after class."""
        rows = [np.arange(self.first[c], self.first[c] + self.count[c]) for c in classes]
        return np.concatenate(rows) if rows else np.zeros(0, np.int64)

    def trained_on(self, images: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Numbers [m] of the sentences of classes `seen` that were written for `images` or for no single image."""
        return np.flatnonzero(np.isin(self.label, seen) & (np.isin(self.image, images) | (self.image == OF_CLASS)))

    def for_training(self, images: np.ndarray, seen: np.ndarray, names: Sequence[str]) -> "Captions":
        """The sentences that are `trained_on`: no word written for a test image. Other classes have none.

        A UserError gives the name (of those of all c classes) of a seen class whose sentences are all of other images.
        """
        kept = self.trained_on(images, seen)
        chosen = (Caption(int(self.label[i]), int(self.image[i]), self.sentences[i]) for i in kept)
        return arrange(chosen, names, seen)

    def captions_for(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(first, count), int32 [n]: the run of sentences from which one is drawn for each image.

        The sentences of the image; where it has none, those of its class (`labels`) as a whole; where there are none,
        all of the class.
        """
        label = self.label
        starts = np.flatnonzero(np.diff(self.image, prepend=-2) | np.diff(label, prepend=-1))
        sizes = np.diff(starts, append=len(self.image))
        run = {(int(label[s]), int(self.image[s])): (s, n) for s, n in zip(starts, sizes, strict=True)}
        whole = list(zip(self.first, self.count, strict=True))
        runs = [
            run.get((c, i)) or run.get((c, OF_CLASS)) or whole[c]
            for i, c in zip(images.tolist(), labels.tolist(), strict=True)
        ]
        first, count = np.array(runs, np.int32).reshape(-1, 2).T
        return first, count

    def view(self, classes: np.ndarray, names: Sequence[str], images: np.ndarray, rows: np.ndarray) -> "Captions":
        """What is left if only `classes` (of these `names`) and `images` exist.

        They are numbered by their places in `classes` and in `rows`, image ids among which are all of `images`; both
        ascend. A UserError lists classes whose sentences are all of other images.
        """
        kept = self.trained_on(images, classes)
        label = np.searchsorted(classes, self.label)
        image = np.where(self.image == OF_CLASS, OF_CLASS, np.searchsorted(rows, self.image))
        return arrange((Caption(int(label[i]), int(image[i]), self.sentences[i]) for i in kept), names)


def arrange(captions: Iterable[Caption], classes: Sequence[str], needed: np.ndarray | None = None) -> Captions:
    """Puts captions in the order of Captions. A UserError lists those of `needed` (None: of all) without one."""
    ordered = sorted(captions, key=lambda c: c[:2])  # stable: the order of the file within an image
    count = np.bincount([c.label for c in ordered], minlength=len(classes)).astype(np.int32)
    missing = [classes[c] for c in (range(len(classes)) if needed is None else needed) if count[c] == 0]
    if missing:
        raise UserError(f"{len(missing)} classes have no description: {listed(missing, 3)}; expected one at least")
    return Captions(
        tuple(c.sentence for c in ordered),
        np.array([c.image for c in ordered], np.int32),
        (np.cumsum(count) - count).astype(np.int32),
        count,
    )


def generate(table: np.ndarray, per_class: int = 100, n_named: int = 28, seed: int = 0) -> list[Caption]:
    """Generated captions: sentences that list attributes of a class, not sentences anybody wrote.

    "a17, a203, ...": `n_named` different attributes in the order of the table, as people go from part to part, drawn in
    proportion to the square of their values relative to the largest of any class: what stands out is named most. How
    often a class is said to have an attribute follows the value in the table.

    Args:
      table: [c, a] attributes >= 0.
      per_class: sentences of each class, >= 1.
      n_named: attributes in a sentence, which has as many words; encoders read 30 words or 201 characters. At most half
        of the table is named: all of it would be the same sentence again and again.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    share = (np.maximum(table, 0) / np.maximum(table.max(axis=0, keepdims=True), 1e-12)) ** 2 + 1e-9
    captions = []
    for label, row in enumerate(share / share.sum(axis=1, keepdims=True)):
        for _ in range(per_class):
            chosen = rng.choice(len(row), min(n_named, -(-len(row) // 2)), replace=False, p=row)
            captions.append(Caption(label, OF_CLASS, ", ".join(f"a{j + 1}" for j in np.sort(chosen))))
    return captions
