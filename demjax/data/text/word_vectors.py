"""Word vectors trained elsewhere: GloVe and word2vec files, text or binary, of which only the words in use are kept."""

import gzip
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demjax.checks import UserError
from demjax.data.text.vocabulary import words_of
from demjax.progress import ProgressLine

Entry = tuple[str, np.ndarray]
MOST_WIDE = 100_000  # numbers of one vector: more is another kind of file


def read_word_vectors(path: str | Path, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """{word: float32 [e]} of the words in `wanted` that the file has; the first of equal words counts.

    Reads `word 0.1 0.2 ...` lines (GloVe; word2vec text with its head line), word2vec binary where the name ends in
    .bin, each also behind .gz. A word that stands only in capitals in the file serves its lower-case form.

    Raises:
      UserError: no such file, another form, vectors of different lengths, NaN or Inf; with the line or word.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected word vectors, GloVe or word2vec, as .txt, .bin or .gz")
    exact: dict[str, np.ndarray] = {}
    other_case: dict[str, np.ndarray] = {}
    binary = path.name.removesuffix(".gz").endswith(".bin")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for word, vector in (_binary if binary else _lines)(path, file, wanted):
                if not np.isfinite(vector).all():
                    raise UserError(f"{path}: the vector of {word!r} has NaN or Inf")
                if word in wanted:
                    exact.setdefault(word, vector)
                else:
                    other_case.setdefault(word.lower(), vector)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged or cut short ({error}): fetch it again") from None
    either = other_case | exact
    return {word: either[word] for word in wanted if word in either}


def _lines(path: Path, file: Any, wanted: Collection[str]) -> Iterator[Entry]:
    progress, size, done, width = ProgressLine(f"reading {path.name}"), path.stat().st_size, 0, 0
    for number, raw in enumerate(file, start=1):
        done += len(raw)
        if number % 10_000 == 0:
            progress(min(done, size), size)
        if number == 1 and (b"\0" in raw or raw.startswith(b"\x93NUMPY")):
            raise UserError(f"{path} is no UTF-8 text of words and numbers; word2vec binary files end in .bin")
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip()
        except UnicodeDecodeError:
            continue  # a few words of the published files are cut inside a letter
        if not line:
            continue
        if number == 1 and len(parts := line.split(" ")) == 2 and all(_is_count(p) for p in parts):
            width = int(parts[1])
            continue
        width = width or line.count(" ")
        word = line.rsplit(" ", width)[0]  # a few words of GloVe 840B have spaces
        if not 0 < width <= MOST_WIDE or line.count(" ") < width:
            raise UserError(f"{path} line {number}: expected a word and {width or 'some'} numbers, got {line[:60]!r}")
        if word in wanted or word.lower() in wanted:
            yield word, _numbers(path, number, line[len(word) :], width)


def _is_count(text: str | bytes) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12


def _numbers(path: Path, number: int, text: str, width: int) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # becomes Inf, which is refused by name
            vector = np.array(text.split(), np.float64).astype(np.float32)
    except ValueError:
        vector = np.zeros(0, np.float32)
    if len(vector) != width:
        raise UserError(f"{path} line {number}: expected {width} numbers after the word, got {text.strip()[:60]!r}")
    return vector


def _binary(path: Path, file: Any, wanted: Collection[str]) -> Iterator[Entry]:
    head = file.readline(64).split()
    if len(head) != 2 or not all(_is_count(p) for p in head) or not 0 < int(head[1]) <= MOST_WIDE:
        raise UserError(f"{path} does not begin with the number of words and their width: not a word2vec binary file")
    n, width = int(head[0]), int(head[1])
    progress = ProgressLine(f"reading {path.name}")
    for i in range(n):
        word = bytearray()
        while (letter := file.read(1)) != b" ":
            if not letter or len(word) > 1000:
                raise UserError(f"{path} ends or breaks at word {i:,} of {n:,}: fetch it again")
            word += letter
        raw = file.read(4 * width)
        if len(raw) < 4 * width:
            raise UserError(f"{path} ends at word {i:,} of {n:,}: fetch it again")
        if i % 10_000 == 9_999:
            progress(i + 1, n)
        text = word.decode("utf-8", "replace").lstrip("\n")
        if text in wanted or text.lower() in wanted:
            yield text, np.frombuffer(raw, "<f4").astype(np.float32)


def average_vectors(sentences: Sequence[str], vectors: dict[str, np.ndarray]) -> np.ndarray:
    """[n, e] float32: the mean vector of the words of each sentence that have one, 0 where none has.

    Raises a UserError where no word of any sentence has a vector.
    """
    if not vectors:
        raise UserError("no word of the descriptions has a word vector: is it a file of another language?")
    averages = np.zeros((len(sentences), len(next(iter(vectors.values())))), np.float32)
    for row, sentence in enumerate(sentences):
        known = [vectors[word] for word in words_of(sentence) if word in vectors]
        if known:
            averages[row] = np.mean(known, axis=0, dtype=np.float64)
    return averages
