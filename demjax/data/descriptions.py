"""Sentences that describe classes, as rows of word numbers."""

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from demjax.checks import UserError, listed

PADDING, UNKNOWN = 0, 1
FIRST_WORD = 2
_WORD = re.compile(r"\w+(?:['-]\w+)*")  # \w is any alphabet
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclasses.dataclass(frozen=True)
class Descriptions:
    """Sentences in the order of their classes.

    Attributes:
      tokens: [n, t] word numbers: 0 padding, 1 a word of no seen class, from 2 on the rows of `words`.
      first, count: [c] where the sentences of each class begin, and how many there are (1 at least).
      words: the vocabulary.
    """

    tokens: np.ndarray
    first: np.ndarray
    count: np.ndarray
    words: tuple[str, ...]

    def of(self, classes: np.ndarray) -> "Descriptions":
        """Those of some classes, in this order."""
        rows = [np.arange(self.first[c], self.first[c] + self.count[c]) for c in classes]
        count = self.count[classes]
        tokens, first = self.tokens[np.concatenate(rows)], np.cumsum(count) - count
        return dataclasses.replace(self, tokens=tokens, first=first.astype(np.int32), count=count)

    def with_words_of(self, seen: np.ndarray) -> "Descriptions":
        """The same sentences with the vocabulary of fewer seen classes: other words become unknown."""
        kept = np.unique(self.of(seen).tokens)
        kept = kept[kept >= FIRST_WORD]
        number = np.full(len(self.words) + FIRST_WORD, UNKNOWN, np.int32)
        number[PADDING], number[kept] = PADDING, np.arange(len(kept)) + FIRST_WORD
        words = tuple(self.words[i - FIRST_WORD] for i in kept)
        return dataclasses.replace(self, tokens=number[self.tokens], words=words)


def words_of(sentence: str) -> list[str]:
    """Lower-case words.

    >>> words_of("The bird's crown is blue-grey!")
    ['the', "bird's", 'crown', 'is', 'blue-grey']
    """
    return _WORD.findall(sentence.lower())


def encode(sentences: Sequence[Sequence[str]], seen: np.ndarray, length: int = 30, least: int = 1) -> Descriptions:
    """Numbers the words of the sentences of each class.

    Args:
      sentences: for each class, its sentences.
      seen: ids of the classes whose words make the vocabulary: other words have no trained vector.
      length: t, words of a sentence; the rest is cut off.
      least: how often a word must occur.

    Raises:
      UserError: a class without a word.
    """
    split = [[w for w in (words_of(s)[:length] for s in of_class) if w] for of_class in sentences]
    empty = [c for c, of_class in enumerate(split) if not of_class]
    if empty:
        raise UserError(f"classes {listed(empty)} (0-based) have no sentence with a word: expected one at least")
    counts = Counter(word for c in seen for sentence in split[c] for word in sentence)
    words = tuple(sorted(word for word, n in counts.items() if n >= least))
    number = {word: i + FIRST_WORD for i, word in enumerate(words)}
    tokens = np.zeros((sum(map(len, split)), length), np.int32)
    for row, sentence in enumerate(s for of_class in split for s in of_class):
        tokens[row, : len(sentence)] = [number.get(word, UNKNOWN) for word in sentence]
    count = np.array([len(of_class) for of_class in split], np.int32)
    return Descriptions(tokens, (np.cumsum(count) - count).astype(np.int32), count, words)


def read_jsonl(path: Path, classes: Sequence[str]) -> list[list[str]]:
    """The sentences of each class from lines {"class": name, "text": ...}, joined by class name.

    Raises:
      UserError: a line that is not such an object, an unknown or a missing class.
    """
    texts: dict[str, list[str]] = {name: [] for name in classes}
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected lines of JSON with a class and a text")
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        name, text = _class_and_text(path, number, line)
        if name not in texts:
            raise UserError(
                f"{path} line {number} describes {name!r}, which is no class; classes: {listed(classes, 3)}"
            )
        texts[name] += [s for s in _SENTENCE_END.split(text) if words_of(s)]
    missing = [name for name in classes if not texts[name]]
    if missing:
        raise UserError(f"{path} does not describe {len(missing)} classes: {listed(missing, 3)}")
    return [texts[name] for name in classes]


def _class_and_text(path: Path, number: int, line: str) -> tuple[str, str]:
    try:
        entry = json.loads(line)
        name, text = entry["class"], entry["text"]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f'{path} line {number}: expected {{"class": ..., "text": ...}}, got {line[:60]!r}') from error
    if not isinstance(name, str) or not isinstance(text, str):
        raise UserError(f"{path} line {number}: expected text for class and text")
    return name, text


def generate(
    table: np.ndarray, per_class: int = 100, told: int = 28, seed: int = 0, names: Iterable[str] | None = None
) -> list[list[str]]:
    """Generated captions: sentences that list some attributes of a class, not sentences anybody wrote.

    "attribute17, attribute203, ...": `told` different attributes in the order of the table, as people go from part to
    part, drawn in proportion to the square of their values relative to the largest of any class: what stands out is
    told most. How often a class is said to have an attribute tells what the table says of it.

    Args:
      table: [c, a] attributes >= 0.
      per_class: sentences of each class.
      told: attributes in a sentence, which has as many words; DEM reads 30 words. At most half of the table is told:
        all of it would be the same sentence again and again.
      seed: of the draws.
      names: of the attributes; default attribute1, attribute2 ...
    """
    rng = np.random.default_rng(seed)
    known = list(names) if names else [f"attribute{j + 1}" for j in range(table.shape[1])]
    share = (np.maximum(table, 0) / np.maximum(table.max(axis=0, keepdims=True), 1e-12)) ** 2 + 1e-9
    sentences = []
    for row in share / share.sum(axis=1, keepdims=True):
        drawn = [rng.choice(len(row), min(told, -(-len(row) // 2)), replace=False, p=row) for _ in range(per_class)]
        sentences.append([", ".join(known[j] for j in np.sort(chosen)) for chosen in drawn])
    return sentences
