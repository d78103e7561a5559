"""The sides of a ClassSet (images, classes, sentences): which columns they have, and how ids become rows of them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from demjax.checks import UserError
from demjax.data.lazy_rows import read_rows
from demjax.data.text.captions import Captions

Readers = dict[str, dict[str, Callable[[np.ndarray], Any]]]


def readers(features: np.ndarray, semantics: np.ndarray, captions: Captions | None) -> Readers:
    """{side: {column: function of ids [n]}}; sentences only where there are captions."""
    sides: Readers = {
        "image": {"features": lambda ids: read_rows(features, ids)},
        "class": {"id": lambda ids: ids.copy(), "semantics": lambda ids: semantics[ids]},
    }
    if captions is not None:
        sides["class"]["sentences"] = lambda ids: tuple(captions.of_class(c) for c in ids.tolist())
        sides["text"] = {
            "sentences": lambda ids: tuple(captions.sentences[i] for i in ids.tolist()),
            "label": lambda ids: captions.label[ids],
            "semantics": lambda ids: semantics[captions.label[ids]],
        }
    return sides


def row_shapes(
    features: np.ndarray, semantics: np.ndarray, captions: Captions | None
) -> dict[str, dict[str, tuple[int, ...]]]:
    """{side: {column: shape of a row}} of the columns that `readers` gives; () for numbers and text."""
    shapes = {"features": features.shape[1:], "semantics": semantics.shape[1:]}
    sides = readers(features, semantics, captions)
    return {side: {column: shapes.get(column, ()) for column in columns} for side, columns in sides.items()}


def ids(
    name: str,
    side: str,
    split: str,
    images: Mapping[str, np.ndarray],
    classes: Mapping[str, np.ndarray],
    captions: Captions | None,
) -> np.ndarray:
    """Ids [n] of the items of `side` in `split`: image ids, class ids, or numbers of the sentences of classes.

    Raises:
      UserError: a side or split that set `name` does not have.
    """
    sides = {"image": images, "class": classes} | ({} if captions is None else {"text": classes})
    splits = _one_of(f"{name} has no side {side!r}", side, sides)
    chosen = _one_of(f"side {side} of {name} has no split {split!r}", split, splits)
    return captions.rows_of(chosen) if side == "text" and captions is not None else chosen


def items(name: str, sides: Readers, side: str, ids: np.ndarray, columns: Iterable[str]) -> dict[str, Any]:
    """{column: rows} of the items `ids` [n].

    Raises:
      UserError: a side or a column that set `name` does not have.
    """
    of_side = _one_of(f"{name} has no side {side!r}", side, sides)
    chosen = {c: _one_of(f"side {side} of {name} has no column {c!r}", c, of_side) for c in columns}
    return {column: read(np.asarray(ids)) for column, read in chosen.items()}


def _one_of(message: str, key: str, options: Mapping[str, Any]) -> Any:
    if key not in options:
        hint = "; for sentences set data.descriptions" if key in ("text", "sentences") else ""
        raise UserError(f"{message}: it has {', '.join(options)}{hint}")
    return options[key]
