"""xlsa17 in the register of sources: it reads every set that no other source claims."""

from pathlib import Path

from demjax.checks import choose
from demjax.data.class_set import ClassSet
from demjax.data.sources.source import Settings, Source
from demjax.data.sources.xlsa17.prepared import read_prepared

SPLITS = dict.fromkeys(("auto", "ps1", "ps2"))


def _claims(name: str, folder: Path | None) -> bool:
    del name, folder
    return True


def _read(name: str, settings: Settings) -> ClassSet:
    choose("data.split", settings.split, SPLITS)
    return read_prepared(name, settings.folder, settings.features, settings.semantics or "att", settings.split)


SOURCE = Source("xlsa17", "MATLAB files of CUB, AWA1, AWA2, SUN, APY, or of any set in their form", _claims, _read)
