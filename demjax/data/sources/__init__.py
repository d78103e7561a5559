"""The register of sources. How a new one is added: README.md beside this file."""

from demjax.data.sources.class_lists import SOURCE as CLASS_LISTS
from demjax.data.sources.planted import SOURCE as PLANTED
from demjax.data.sources.source import Settings as Settings
from demjax.data.sources.source import Source as Source
from demjax.data.sources.xlsa17 import SOURCE as XLSA17

# The last one that claims a set reads it; the first claims all.
SOURCES: dict[str, Source] = {source.name: source for source in (XLSA17, CLASS_LISTS, PLANTED)}
