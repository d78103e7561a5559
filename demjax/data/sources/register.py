"""The register of sources. How a new one is added: README.md beside this file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from demjax.data.dataset import Dataset
from demjax.data.sources import class_lists, planted


class Source(NamedTuple):
    """A kind of data set that can be read.

    Attributes:
      name: in the register.
      about: what it is, in one line for people.
      claims: (name of the set, folder or None) -> whether the set is read by this source. Reads no large file.
      read: (name of the set, folder or None, and by name the settings of `load`: features, semantics, split, planted)
        -> the checked Dataset; a UserError says what is wrong in which file. It takes what it needs, and `**_`.
    """

    name: str
    about: str
    claims: Callable[[str, Path | None], bool]
    read: Callable[..., Dataset]


def _read_xlsa17(name: str, folder: Path | None, **settings: Any) -> Dataset:
    from demjax.data.sources.xlsa17 import xlsa17_dataset_builder  # imports TFDS, which takes half a second

    return xlsa17_dataset_builder.read_prepared(name, folder, **settings)


# The last one that claims a set reads it; the first claims all.
SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            "xlsa17",
            "MATLAB files of CUB, AWA1, AWA2, SUN, APY, or of any set in their form",
            lambda name, folder: True,
            _read_xlsa17,
        ),
        Source(
            "class_lists",
            "a folder of .npy files, which may be larger than memory, and lists of classes",
            lambda name, folder: folder is not None and (folder / "features.npy").is_file(),
            class_lists.read,
        ),
        Source(
            "planted",
            "drawn at random, with a known best answer; no files",
            lambda name, folder: name == "planted",
            planted.read,
        ),
    )
}
