"""How sentences enter a system: as characters, as words of the seen classes, or as the mean of word vectors."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from demjax.checks import UserError, listed
from demjax.data import text
from demjax.data.captions import OF_CLASS, Captions
from demjax.data.dataset import Dataset
from demjax.data.word_vectors import average_vectors, read_word_vectors
from demjax.models import CHARACTERS

BLOCK = 1024  # sentences encoded at once


class Reader(NamedTuple):
    """Sentences as the arrays an encoder takes.

    Attributes:
      read: n sentences -> [n, ...].
      n_in: symbols there are, or the width of the vectors.
      notes: what a person should know, a line each.
    """

    read: Callable[[Sequence[str]], np.ndarray]
    n_in: int
    notes: tuple[str, ...] = ()


def captions_of(dataset: Dataset, task: str) -> Captions:
    """The captions of a set.

    Raises:
      UserError: it has none.
    """
    if dataset.descriptions is None:
        raise UserError(
            f"task {task} reads sentences: set data.descriptions to a file or folder of captions "
            "(.csv, .json, .jsonl, or a folder of .txt), or to generated"
        )
    return dataset.descriptions


def words(dataset: Dataset, captions: Captions) -> Reader:
    """Rows of 30 word numbers: PADDING, UNKNOWN, then the vocabulary, made of what may be trained on."""
    known = text.vocabulary(_of_training(dataset, captions))
    unknown = text.unknown_report([captions.sentences[i] for i in captions.rows_of(dataset.unseen)], known)
    note = f"vocabulary: {len(known):,} words of the seen classes; of the unseen ones {unknown}"
    return Reader(lambda sentences: text.numbered(sentences, known), len(known) + text.FIRST_WORD, (note,))


def one_hot(dataset: Dataset, captions: Captions, reads: str) -> Reader:
    """Characters, or words of which an unknown one is no symbol: its one-hot column was never trained."""
    if reads == CHARACTERS:
        return Reader(text.characters, len(text.ALPHABET))
    found = words(dataset, captions)
    return found._replace(
        read=lambda some: np.maximum(found.read(some) - text.UNKNOWN, 0), n_in=found.n_in - text.FIRST_WORD
    )


def _of_training(dataset: Dataset, captions: Captions) -> list[str]:
    """The sentences of seen classes, without those of test images."""
    trained = np.append(dataset.splits["trainval"], OF_CLASS)
    rows = captions.rows_of(dataset.seen)
    return [captions.sentences[i] for i in rows[np.isin(captions.image[rows], trained)]]


def word_averages(captions: Captions, path: str) -> Reader:
    """The mean of the word vectors of each sentence.

    Raises:
      UserError: no file named or none there, no word with a vector, a class none of whose words has one.
    """
    if not path:
        raise UserError("task.word_vectors is empty: expected a file of word vectors, GloVe or word2vec")

    def read(sentences):
        wanted = {word for sentence in sentences for word in text.words_of(sentence)}
        return average_vectors(sentences, read_word_vectors(path, wanted))

    averages = read(captions.sentences)
    known = np.abs(averages).sum(axis=1) > 0
    bare = np.flatnonzero(np.add.reduceat(known, captions.first) == 0)
    if len(bare):
        raise UserError(f"{path} has no word of the descriptions of classes {listed(bare)} (0-based)")
    note = f"word vectors: {averages.shape[1]} numbers each; {(~known).sum():,} of {len(known):,} sentences have none"
    return Reader(read, averages.shape[1], (note,))


def encode_blocks(encode: Callable, params: Any, inputs: np.ndarray, *beside: np.ndarray) -> Iterator[jax.Array]:
    """encode(params, inputs, *beside), BLOCK rows at a time, the last block filled up to the same shape."""
    for start in range(0, len(inputs), BLOCK):
        some = [x[start : start + BLOCK] for x in (inputs, *beside)]
        n = len(some[0])
        size = BLOCK if len(inputs) > BLOCK else n
        padded = [np.concatenate([x, np.repeat(x[-1:], size - n, axis=0)]) for x in some]
        yield encode(params, *(jnp.asarray(x) for x in padded))[:n]


def class_means(blocks: Iterator[jax.Array], label: np.ndarray, n_classes: int) -> jax.Array:
    """[c, d]: the mean of the encoded sentences of each class; sums in float32, one block after the other."""
    total, start = jnp.float32(0.0), 0
    for block in blocks:
        own = label[start : start + len(block)]
        total += jnp.zeros((n_classes, block.shape[1])).at[own].add(block)
        start += len(block)
    return total / np.bincount(label, minlength=n_classes)[:, None]
