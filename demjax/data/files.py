"""Text files: the reader of text, the reader of JSON and the reader of lists of names."""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from demjax.checks import UserError, listed

_LINE_END = re.compile(r"\r\n|\r|\n")  # nothing else ends a line: U+2028 and the like stand inside text


def read_text(path: Path, expected: str = "a text file") -> str:
    """The text of a UTF-8 file, without a byte order mark; the ends of its lines stay as they are.

    Raises a UserError where there is no such file (`expected` says what it should be), or for bytes that are not UTF-8.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: no such file; expected {expected}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (3 if raw.startswith(b"\xef\xbb\xbf") else 0)  # the decoder counts behind the mark
        line = raw[:start].count(b"\n") + 1
        raise UserError(
            f"{path} line {line} is not UTF-8 (byte {raw[start]:#04x}), byte {start} of the file: save the file as "
            "UTF-8, as with iconv -f latin1 -t utf-8"
        ) from None


def read_json(path: Path, what: str = "JSON", pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value of a JSON file; a UserError says why it is no `what`, as "JSON of captions", with line and column.

    `pairs` makes the value of an object of its (name, value) pairs, doubled names included; default: a dict.
    """
    text = read_text(path, what)
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no {what}: {' '.join(str(error).split())}; mend it, or write it anew") from None


def read_names(path: Path, known: Collection[str] = ()) -> list[str]:
    """The names in a text file, one a line, exactly as they stand there without white space around them.

    Blank lines are skipped. An empty file has no names. A name with spaces may be the only one of a file if it is in
    `known`, as in a list of the one class "polar bear".

    Raises:
      UserError: as `read_text`; names that stand twice (all are listed), or several names in a single line.
    """
    lines = _LINE_END.split(read_text(path, "one class name a line"))
    names = [line.strip() for line in lines if line.strip()]
    doubled = sorted(name for name, n in Counter(names).items() if n > 1)
    if doubled:
        raise UserError(f"{path} has {len(doubled)} names that stand twice: {listed(doubled)}; expected each once")
    if len(names) == 1 and names[0] not in known and len(words := names[0].split()) > 1:
        raise UserError(
            f"{path} has a single line of {len(words)} words, {names[0][:40]!r}: one name a line is expected; "
            "put each name on a line, or a _ into names of several words"
        )
    return names
