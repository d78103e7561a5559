"""Where data sets come from: one file a source, and their register."""

from demjax.data.sources.register import SOURCES as SOURCES
from demjax.data.sources.register import Source as Source
