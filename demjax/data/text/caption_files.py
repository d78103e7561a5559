"""Captions from files: folders of text, CSV, JSON. Classes and images are joined by name.

    FOLDER/CLASS/IMAGE.txt   one caption a line, of that image (the raw captions of CUB and Flowers: ten lines)
    FOLDER/CLASS.txt         one caption a line, of the class
    FILE.csv                 columns class and caption, image where known
    FILE.json                {class: [caption, ...]} (as CuPL and files of descriptors)
    FILE.jsonl               lines {"class": ..., "text": ...}, a text cut into its sentences

A class is named as in the data set, or as people write it: "black footed albatross" for 001.Black_footed_Albatross.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from demjax.checks import UserError, did_you_mean, listed
from demjax.data.files import read_json, read_text
from demjax.data.text.captions import OF_CLASS, Caption
from demjax.data.text.vocabulary import words_of

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_BYTES = re.compile(r"""^\W*(?:b|rb|br)['"]""", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")  # what ends lines is white space
Line = tuple[str, str, str, str]  # where, class, image ("" for none), caption


class Names(NamedTuple):
    """What captions may be of."""

    classes: Sequence[str]
    images: Sequence[str]
    labels: Sequence[int]


def plain(name: str) -> str:
    """A class name as people write it.

    >>> plain("001.Black_footed_Albatross"), plain("grizzly+bear")
    ('black footed albatross', 'grizzly bear')
    """
    return re.sub(r"[-_+\s]+", " ", re.sub(r"^\d+\.", "", name)).strip().lower()


def read(path: Path, names: Names) -> list[Caption]:
    """All captions of a file or folder; a UserError as of `lines`, or for an unknown class or image."""
    label_of, image_of = class_finder(names.classes), _image_finder(names)
    captions = []
    for where, of_class, of_image, text in lines(path):
        label = label_of(where, of_class)
        captions.append(Caption(label, image_of(where, of_image, label) if of_image else OF_CLASS, text))
    return captions


def lines(path: Path) -> Iterator[Line]:
    """(where, class, image, caption) for each caption of a file or folder; the image is "" where none is named.

    Raises:
      UserError: no such file, another form, not UTF-8, no caption, an empty one, text that was bytes (b'...'), no
        class; with file and line.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; expected a folder of .txt, or a .csv, .json or .jsonl file of captions")
    reader = _folder if path.is_dir() else READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: expected a folder of .txt, or {', '.join(READERS)}, got {path.suffix or 'no ending'}")
    empty = True
    for where, of_class, of_image, text in reader(path):
        yield where, of_class, of_image, _checked(where, of_class, of_image, text)
        empty = False
    if empty:
        raise UserError(f"{path} holds no caption: expected one for each class at least")


def _checked(where: str, of_class: Any, of_image: str, text: Any) -> str:
    for what, value in (("class", of_class), ("image", of_image), ("caption", text)):
        if not isinstance(value, str):
            raise UserError(f"{where}: expected text for the {what}, got {type(value).__name__}")
        if _BYTES.match(value):
            raise UserError(f"{where}: {value.strip()[:30]!r} was bytes printed as text: decode it, .decode('utf-8')")
        if control := _CONTROL.search(value):
            raise UserError(f"{where}: the {what} has the control character {control[0]!r}: take it out")
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise UserError(f"{where}: the {what} has half a character (a lone surrogate): save it as UTF-8 again")
    if not of_class:
        raise UserError(f"{where}: the caption has no class")
    if not text.strip():
        raise UserError(f"{where}: the caption is empty: write one or take the line out")
    if not words_of(text):
        raise UserError(f"{where}: the caption {text.strip()[:30]!r} has no word: write one or take the line out")
    return text.strip()


def class_finder(names: Sequence[str]) -> Callable[[str, Any], int]:
    """(where, name) -> number: exactly so, or as people write it. Raises a UserError with `where` for another name."""
    exact = {name: i for i, name in enumerate(names)}
    loose: dict[str, list[int]] = {}
    for name, i in exact.items():
        loose.setdefault(plain(name), []).append(i)

    def find(where: str, name: Any) -> int:
        if name in exact:
            return exact[name]
        alike = loose.get(plain(name), []) if isinstance(name, str) else []
        if len(alike) != 1:
            hint = f"could be {listed(names[i] for i in alike)}" if alike else did_you_mean(str(name), names)
            raise UserError(f"{where}: {name!r} is no class of this set: {hint[:200]}")
        return alike[0]

    return find


def _image_finder(names: Names) -> Callable[[str, str, int], int]:
    """(where, name, class) -> number: by path, else by file name within the class, with or without its ending."""
    exact = {name: i for i, name in enumerate(names.images)}
    within: dict[tuple[int, str], list[int]] = {}
    for i, (name, label) in enumerate(zip(names.images, names.labels, strict=False)):
        for short in {Path(name).name, Path(name).stem}:
            within.setdefault((int(label), short), []).append(i)

    def find(where: str, name: str, label: int) -> int:
        for key in (Path(name).name, Path(name).stem):
            alike = [exact[name]] if name in exact else within.get((label, key), [])
            if len(alike) > 1:
                raise UserError(f"{where}: {name!r} could be {listed(names.images[i] for i in alike)}: give its path")
            if alike and names.labels[alike[0]] == label:
                return alike[0]
            if alike:
                other = names.classes[names.labels[alike[0]]]
                raise UserError(f"{where}: image {name!r} is of class {other}, not {names.classes[label]}")
        if not names.images:
            raise UserError(
                f"{where}: {name!r}: the set has no image names (image_files), captions cannot be of images"
            )
        hint = did_you_mean(name, [n for n, c in zip(names.images, names.labels, strict=False) if c == label])
        raise UserError(f"{where}: {name!r} is no image of class {names.classes[label]}: {hint[:200]}")

    return find


def _lines_of(file: Path) -> Iterator[tuple[str, str]]:
    """(where, line) of lines that are not blank."""
    for number, line in enumerate(io.StringIO(read_text(file)), start=1):
        if line.strip():
            yield f"{file} line {number}", line


def _folder(path: Path) -> Iterator[Line]:
    """Blank lines are no captions: they part those of a class."""
    for file in sorted(path.rglob("*.txt")):
        inner = file.parent != path
        of_class, of_image = (file.parent.name, file.stem) if inner else (file.stem, "")
        for where, line in _lines_of(file):
            yield where, of_class, of_image, line


def _csv(path: Path) -> Iterator[Line]:
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        head = [name.strip() for name in next(rows, [])]
        if sorted(head) not in (["caption", "class"], ["caption", "class", "image"]):
            raise UserError(f"{path} has columns {listed(head) or 'none'}: expected class, caption and maybe image")
        for fields in rows:
            where = f"{path} line {rows.line_num}"
            if not fields:
                continue  # an empty line
            row = dict(zip(head, fields, strict=False))
            if len(fields) != len(head):
                raise UserError(f"{where}: expected {len(head)} fields; put captions with commas in quotes")
            if "\n" in row["caption"].strip():
                raise UserError(f"{where}: the caption has a line break: is the quote before it closed?")
            yield where, row["class"].strip(), row.get("image", "").strip(), row["caption"]
    except csv.Error as error:
        raise UserError(f"{path} line {rows.line_num} is no CSV ({error}): is a quote left open?") from None


def _json(path: Path) -> Iterator[Line]:
    classes = read_json(path, "JSON of captions", pairs=list)  # pairs: no class is lost to a second one of its name
    if not isinstance(classes, list) or not all(isinstance(c, tuple) and isinstance(c[1], list) for c in classes):
        raise UserError(f"{path}: expected {{class: [caption, ...], ...}}")
    for name, sentences in classes:
        if not sentences:
            raise UserError(f"{path}: class {name!r} has no captions: expected one at least")
        for i, sentence in enumerate(sentences):
            yield f"{path}, {name!r} number {i}", name, "", sentence


def _jsonl(path: Path) -> Iterator[Line]:
    for where, line in _lines_of(path):
        try:
            entry = json.loads(line)
            name, text = entry["class"], entry["text"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(f'{where}: expected {{"class": ..., "text": ...}}, got {line[:60]!r}') from error
        for sentence in _SENTENCE_END.split(_checked(where, name, "", text)):
            if words_of(sentence):
                yield where, name, "", sentence


READERS: dict[str, Callable[[Path], Iterator[Line]]] = {".csv": _csv, ".json": _json, ".jsonl": _jsonl}
