"""How sentences enter a system: as characters, as words of the seen classes, or as the mean of word vectors."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from demjax.checks import UserError, listed
from demjax.data import ClassSet, Spec
from demjax.data.fingerprints import digest
from demjax.data.text import vocabulary as text
from demjax.data.text.captions import Captions
from demjax.data.text.word_vectors import average_vectors, read_word_vectors
from demjax.models import CHARACTERS


class Reader(NamedTuple):
    """Sentences as the arrays that an encoder takes.

    Attributes:
      read: n sentences -> [n, ...].
      n_in: () -> how many symbols there are, or the width of the vectors.
      check: (dataset) -> None; raises UserError for captions of which the encoder would see nothing.
      unread: what of the sentences has no number or vector, in one line; "" where all is read.
      notes: (dataset) -> what a person should know, a line each.
      fingerprint: (dataset) -> digest of what was read beside the data set, "" for nothing.
    """

    read: Callable[[Sequence[str]], np.ndarray]
    n_in: Callable[[], int]
    check: Callable[[ClassSet], None]
    unread: Callable[[Sequence[str]], str] = lambda sentences: ""
    notes: Callable[[ClassSet], tuple[str, ...]] = lambda dataset: ()
    fingerprint: Callable[[ClassSet], str] = lambda dataset: ""

    @property
    def of_task(self) -> dict[str, Any]:
        """The settings of a Task that reads sentences."""
        return {"tokens": {"sentences": self.read}} | {
            name: getattr(self, name) for name in ("unread", "notes", "fingerprint")
        }


def need_captions(spec: Spec, task: str) -> None:
    """Checks that a set has captions.

    Raises:
      UserError: it has none.
    """
    if not spec.has_captions:
        raise UserError(
            f"task {task} reads sentences: set data.descriptions to a file or folder of captions "
            "(.csv, .json, .jsonl, or a folder of .txt), or to generated"
        )


def _captions_of(dataset: ClassSet) -> Captions:
    if dataset.descriptions is None:
        raise UserError(f"{dataset.name} has no captions: expected those of the set that the task was built for")
    return dataset.descriptions


def words(spec: Spec) -> Reader:
    """Rows of 30 word numbers: PADDING, UNKNOWN, then the vocabulary, made of what may be trained on.

    Its check raises UserError for a class none of whose words is known: all such classes would be one.
    """
    known = spec.vocabulary

    def check(dataset):
        captions = _captions_of(dataset)
        read = (text.numbered(captions.sentences, known) >= text.FIRST_WORD).any(axis=1)
        if names := _without(read, captions, dataset.classes):
            raise UserError(
                f"no word of the descriptions of {names} occurs in those of the seen classes: use characters"
            )

    def unread(sentences):
        return text.unknown_report(sentences, known)

    def notes(dataset):
        captions = _captions_of(dataset)
        unknown = unread([captions.sentences[i] for i in captions.rows_of(dataset.unseen)])
        return (f"vocabulary: {len(known):,} words of the seen classes; of the unseen ones {unknown}",)

    n_in = len(known) + text.FIRST_WORD
    return Reader(lambda sentences: text.numbered(sentences, known), lambda: n_in, check, unread, notes)


def symbols(spec: Spec, reads: str) -> Reader:
    """Characters, or words of which an unknown one is no symbol: its one-hot column was never trained."""
    if reads == CHARACTERS:
        return Reader(text.characters, lambda: len(text.ALPHABET), _check_characters)
    reader, n_in = words(spec), len(spec.vocabulary)
    return reader._replace(
        read=lambda sentences: np.maximum(reader.read(sentences) - text.UNKNOWN, 0), n_in=lambda: n_in
    )


def _check_characters(dataset: ClassSet) -> None:
    captions = _captions_of(dataset)
    unread = [i for i, sentence in enumerate(captions.sentences) if not text.has_character(sentence)]
    if unread:
        first, image = unread[0], int(captions.image[unread[0]])
        where = f"class {dataset.classes[captions.label[first]]}"
        where += f", image {dataset.images[image]}" if image >= 0 and dataset.images else ""
        raise UserError(
            f"a caption of {where}, {captions.sentences[first][:40]!r}, has no character of the alphabet (a-z, 0-9, "
            f"punctuation; {len(unread)} such captions): write it so, or use an encoder of words"
        )


class _WordVectors:
    """The vectors of a file, of the words that were asked for; it is read again for new words only."""

    def __init__(self, path: str):
        self._path = path
        self._vectors: dict[str, np.ndarray] = {}
        self._asked: set[str] = set()

    def of(self, sentences: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors of all words asked for until now, those of the sentences among them."""
        wanted = {word for sentence in sentences for word in text.words_of(sentence)} - self._asked
        if wanted:
            self._asked.update(wanted)
            self._vectors.update(read_word_vectors(self._path, wanted))
        return self._vectors


def word_averages(spec: Spec, path: str) -> Reader:
    """The mean of the word vectors of each sentence; the file is first read where a vector is needed.

    Its check raises UserError for a class none of whose words has a vector, or where no word has one.

    Raises:
      UserError: no file is named.
    """
    if not path:
        raise UserError("task.word_vectors is empty: expected a file of word vectors, GloVe or word2vec")
    file = _WordVectors(path)

    def read(sentences):
        return average_vectors(sentences, file.of(sentences))

    def check(dataset):
        captions = _captions_of(dataset)
        known = np.abs(read(captions.sentences)).sum(axis=1) > 0
        if names := _without(known, captions, dataset.classes):
            raise UserError(f"{path} has no word of the descriptions of {names}")

    def unread(sentences):
        return text.unknown_report(sentences, file.of(sentences), length=10**6)

    def notes(dataset):
        sentences = _captions_of(dataset).sentences
        unknown = unread(sentences)
        return (f"word vectors: {read(sentences[:1]).shape[1]} numbers each; {unknown}",)

    def n_in():
        return read((" ".join(spec.vocabulary),)).shape[1]

    return Reader(read, n_in, check, unread, notes, lambda dataset: digest(read(_captions_of(dataset).sentences)))


def _without(read: np.ndarray, captions: Captions, classes: Sequence[str]) -> str:
    """The names of classes none of whose captions is `read` [n], "" for none."""
    bare = np.flatnonzero(np.add.reduceat(read, captions.first) == 0)
    return listed(classes[c] for c in bare.tolist()) if len(bare) else ""


def training_constants(dataset: ClassSet, reader: Reader, images: np.ndarray) -> dict[str, np.ndarray]:
    """inputs [n, ...] of the captions for training; first and count [i + 1]: where those of each image are in there.

    The captions are those of seen classes, without the ones written for test images. The place behind the last image
    is that of the empty row.

    Raises:
      UserError: captions of which the encoder would see nothing; a seen class without one for training.
    """
    reader.check(dataset)
    training = _captions_of(dataset).for_training(dataset.splits["trainval"], dataset.seen, dataset.classes)
    first, count = training.captions_for(images, dataset.labels[images])
    return {"inputs": reader.read(training.sentences)} | with_empty_row(first, count)


def with_empty_row(first: np.ndarray, count: np.ndarray) -> dict[str, np.ndarray]:
    """first and count [i] of each image, and behind them those of the row that pads a batch."""
    return {"first": np.append(first, np.int32(0)), "count": np.append(count, np.int32(1))}


def draw(keys: jax.Array, n: jax.Array) -> jax.Array:
    """For each key a number below n, uniformly."""
    uniform = jax.vmap(lambda key: jax.random.uniform(key, dtype=jnp.float32))(keys)
    return jnp.minimum((uniform * n.astype(jnp.float32)).astype(jnp.int32), n - 1)
