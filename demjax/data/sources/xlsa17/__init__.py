"""The five "good, bad and ugly" benchmarks, and any other set in files of their form; their TFDS builder."""

from demjax.data.sources.xlsa17.locate import Files as Files
from demjax.data.sources.xlsa17.locate import find as find
from demjax.data.sources.xlsa17.locate import folders as folders
from demjax.data.sources.xlsa17.read import PROPOSED_SPLITS as PROPOSED_SPLITS
from demjax.data.sources.xlsa17.read import is_proposed_split as is_proposed_split
from demjax.data.sources.xlsa17.read import read as read
from demjax.data.sources.xlsa17.read import split_digest as split_digest
