"""Sentences as rows of symbol numbers: characters of a fixed alphabet, words of a vocabulary. 0 is no symbol."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from demjax.checks import UserError, listed

# The 70 symbols of Zhang, Zhao & LeCun 2015 as Reed et al. use them, numbered from 1. The hyphen stands twice: read
# from left to right the later place wins, so it is number 60, and 37 never occurs. Released weights need this order.
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{} "
PADDING, UNKNOWN = 0, 1  # of words
FIRST_WORD = 2
_NUMBER = np.zeros(129, np.uint8)
_NUMBER[[ord(c) for c in ALPHABET]] = np.arange(1, len(ALPHABET) + 1)
_VISIBLE = frozenset(ALPHABET) - {" "}
_WORD = re.compile(r"\w+(?:['-]\w+)*")
_LETTER = "x"  # stands for a mark that is written over, under or behind its letter: \w knows letters only


def characters(sentences: Sequence[str], length: int = 201) -> np.ndarray:
    """[n, length] uint8 numbers in ALPHABET: lower case, white space as one space, the rest cut off.

    A character outside the alphabet is 0, an all-zero column, and reading goes on behind it (so does the released
    script for text to images; the released loader would end the sentence there). A UserError names a sentence without
    any character of the alphabet but spaces.
    """
    ids = np.zeros((len(sentences), length), np.uint8)
    for row, sentence in enumerate(sentences):
        line = " ".join(sentence.lower().split())[:length]
        codes = np.frombuffer(line.encode("utf-32-le"), np.uint32)
        ids[row, : len(codes)] = _NUMBER[np.minimum(codes, 128)]
    empty = np.flatnonzero(~((ids > 0) & (ids < len(ALPHABET))).any(axis=1))
    if len(empty):
        raise UserError(
            f"description {empty[0]} (0-based), {sentences[empty[0]][:40]!r}, has no character of the alphabet "
            f"(a-z, 0-9, punctuation) in its first {length} ({len(empty)} such): write it so, or use words"
        )
    return ids


def has_character(sentence: str, length: int = 201) -> bool:
    """Whether any character but spaces in the first `length` is of the alphabet."""
    return any(c in _VISIBLE for c in " ".join(sentence.lower().split())[:length])


def words_of(sentence: str) -> list[str]:
    """Lower-case words.

    >>> words_of("The bird's crown is blue-grey!")
    ['the', "bird's", 'crown', 'is', 'blue-grey']
    """
    if sentence.isascii():
        return _WORD.findall(sentence.lower())
    line = unicodedata.normalize("NFC", sentence).lower().replace("\u2019", "'")
    shape = "".join(_LETTER if unicodedata.category(c)[0] == "M" else c for c in line)
    return [line[match.start() : match.end()] for match in _WORD.finditer(shape)]


def vocabulary(sentences: Iterable[str], length: int = 30, least: int = 1) -> tuple[str, ...]:
    """The words that occur `least` times or more in the first `length` of each sentence, sorted."""
    counts = Counter(word for sentence in sentences for word in words_of(sentence)[:length])
    return tuple(sorted(word for word, n in counts.items() if n >= least))


def numbered(sentences: Sequence[str], known: Sequence[str], length: int = 30) -> np.ndarray:
    """[n, length] int32 word numbers: PADDING, UNKNOWN, from FIRST_WORD on the places in `known`; the rest is cut off.

    Raises a UserError for a sentence without a word.
    """
    number = {word: i + FIRST_WORD for i, word in enumerate(known)}
    tokens = np.zeros((len(sentences), length), np.int32)
    for row, sentence in enumerate(sentences):
        words = words_of(sentence)[:length]
        if not words:
            raise UserError(f"description {row} (0-based), {sentence[:40]!r}, has no word: expected one at least")
        tokens[row, : len(words)] = [number.get(word, UNKNOWN) for word in words]
    return tokens


def unknown_report(sentences: Sequence[str], known: Iterable[str], length: int = 30) -> str:
    """How many words of `sentences` have no number, and the most frequent of them, in one line."""
    counts = Counter(word for sentence in sentences for word in words_of(sentence)[:length])
    have = set(known)
    missing = Counter({word: n for word, n in counts.items() if word not in have})
    share = 100 * missing.total() / max(counts.total(), 1)
    names = f": {listed(word for word, _ in missing.most_common(5))}" if missing else ""
    return f"{share:.1f} % of the words ({len(missing):,} different ones) are unknown{names}"
