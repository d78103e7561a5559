"""The contract of a source of data sets."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from demjax.data.dataset import Dataset


class Settings(NamedTuple):
    """What `load` was asked for. A source reads what it needs of it.

    Attributes:
      folder: with the files, `~` expanded; None: none was named.
      features: name of the features, as `res101`.
      semantics: names of the class vectors, joined by `+`; "": the default of the source.
      split: `auto`, or what the source calls its splits.
      planted: settings of the generator of planted sets.
    """

    folder: Path | None = None
    features: str = "res101"
    semantics: str = ""
    split: str = "auto"
    planted: Mapping[str, Any] = {}


class Source(NamedTuple):
    """A kind of data set that can be read.

    Attributes:
      name: in the register.
      about: what it is, in one line for people.
      claims: (name of the set, folder or None) -> whether the set is read by this source. Reads no large file.
      read: (name of the set, settings) -> the checked Dataset; a UserError says what is wrong in which file.
    """

    name: str
    about: str
    claims: Callable[[str, Path | None], bool]
    read: Callable[[str, Settings], Dataset]
