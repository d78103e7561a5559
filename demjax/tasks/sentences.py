"""How sentences enter a system: as characters, as words of the seen classes, or as the mean of word vectors."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from demjax import processes
from demjax.checks import UserError, listed
from demjax.data.class_set import ClassSet as Dataset
from demjax.data.text import vocabulary as text
from demjax.data.text.captions import Captions
from demjax.data.text.word_vectors import average_vectors, read_word_vectors
from demjax.mesh import spread
from demjax.models import CHARACTERS

BLOCK = 256  # sentences encoded at once: 400 MB inside a character network


class Reader(NamedTuple):
    """Sentences as the arrays an encoder takes.

    Attributes:
      read: n sentences -> [n, ...].
      n_in: symbols there are, or the width of the vectors.
      report: what of some sentences has no number or vector, in one line; "" where all is read.
      notes: what a person should know, a line each.
    """

    read: Callable[[Sequence[str]], np.ndarray]
    n_in: int
    report: Callable[[Sequence[str]], str] = lambda sentences: ""
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
    """Rows of 30 word numbers: PADDING, UNKNOWN, then the vocabulary, made of what may be trained on.

    Raises:
      UserError: a class none of whose words is known: all such classes would be one.
    """
    known = text.vocabulary(training_captions(dataset, captions).sentences)
    tokens = text.numbered(captions.sentences, known)
    bare = np.flatnonzero(np.add.reduceat((tokens >= text.FIRST_WORD).any(axis=1), captions.first) == 0)
    if len(bare):
        names = listed(dataset.classes[c] for c in bare)
        raise UserError(f"no word of the descriptions of {names} occurs in those of the seen classes: use characters")

    def report(sentences):
        return text.unknown_report(sentences, known)

    unknown = report([captions.sentences[i] for i in captions.rows_of(dataset.unseen)])
    note = f"vocabulary: {len(known):,} words of the seen classes; of the unseen ones {unknown}"
    return Reader(lambda some: text.numbered(some, known), len(known) + text.FIRST_WORD, report, (note,))


def one_hot(dataset: Dataset, captions: Captions, reads: str) -> Reader:
    """Characters, or words of which an unknown one is no symbol: its one-hot column was never trained."""
    if reads == CHARACTERS:
        _check_characters(dataset, captions)
        return Reader(text.characters, len(text.ALPHABET))
    found = words(dataset, captions)
    return found._replace(
        read=lambda some: np.maximum(found.read(some) - text.UNKNOWN, 0), n_in=found.n_in - text.FIRST_WORD
    )


def _check_characters(dataset: Dataset, captions: Captions) -> None:
    unread = [i for i, sentence in enumerate(captions.sentences) if not text.has_character(sentence)]
    if unread:
        first, image = unread[0], int(captions.image[unread[0]])
        where = f"class {dataset.classes[captions.label[first]]}"
        where += f", image {dataset.images[image]}" if image >= 0 and dataset.images else ""
        raise UserError(
            f"a caption of {where}, {captions.sentences[first][:40]!r}, has no character of the alphabet (a-z, 0-9, "
            f"punctuation; {len(unread)} such captions): write it so, or use an encoder of words"
        )


def training_captions(dataset: Dataset, captions: Captions) -> Captions:
    """Those of seen classes, without the ones written for test images."""
    return captions.for_training(dataset.splits["trainval"], dataset.seen, dataset.classes)


def word_averages(dataset: Dataset, captions: Captions, path: str) -> Reader:
    """The mean of the word vectors of each sentence.

    Raises:
      UserError: no file named or none there, no word with a vector, a class none of whose words has one.
    """
    if not path:
        raise UserError("task.word_vectors is empty: expected a file of word vectors, GloVe or word2vec")
    vectors: dict[str, np.ndarray] = {}
    asked: set[str] = set()  # the file is read again for new words only

    def look_up(sentences):
        wanted = {word for sentence in sentences for word in text.words_of(sentence)} - asked
        if wanted:
            asked.update(wanted)
            vectors.update(read_word_vectors(path, wanted))
        return vectors

    def report(sentences):
        return text.unknown_report(sentences, look_up(sentences), length=10**6)

    averages = average_vectors(captions.sentences, look_up(captions.sentences))
    known = np.abs(averages).sum(axis=1) > 0
    bare = np.flatnonzero(np.add.reduceat(known, captions.first) == 0)
    if len(bare):
        raise UserError(f"{path} has no word of the descriptions of {listed(dataset.classes[c] for c in bare)}")
    note = f"word vectors: {averages.shape[1]} numbers each; {report(captions.sentences)}"
    return Reader(lambda some: average_vectors(some, look_up(some)), averages.shape[1], report, (note,))


def draw(keys: jax.Array, n: jax.Array) -> jax.Array:
    """For each key a number below n, uniformly."""
    return jnp.minimum((jax.vmap(jax.random.uniform)(keys) * n).astype(jnp.int32), n - 1)


def encode_blocks(encode: Callable, params: Any, inputs: np.ndarray, *beside: np.ndarray) -> Iterator[jax.Array]:
    """encode(params, inputs, *beside), BLOCK rows at a time, the last block filled up to the same shape.

    The processes share the blocks out, and each gets all of them, in order.
    """
    n = len(inputs)
    size = min(BLOCK, n)

    def block(i: int) -> jax.Array:
        rows = [x[i * size : (i + 1) * size] for x in (inputs, *beside)]
        padded = [np.concatenate([x, np.repeat(x[-1:], size - len(x), axis=0)]) for x in rows]
        return encode(params, *(spread(x, params) for x in padded))

    for i, found in enumerate(processes.take_turns(math.ceil(n / BLOCK), block)):
        yield jnp.asarray(found)[: min(size, n - i * size)]


def class_means(blocks: Iterator[jax.Array], label: np.ndarray, n_classes: int) -> jax.Array:
    """[c, d]: the mean of the encoded sentences of each class; sums in float32, one block after the other."""
    total, start = jnp.float32(0.0), 0
    for block in blocks:
        own = label[start : start + len(block)]
        total += jnp.zeros((n_classes, block.shape[1])).at[own].add(block)
        start += len(block)
    return total / np.bincount(label, minlength=n_classes)[:, None]
