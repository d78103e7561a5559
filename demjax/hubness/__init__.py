"""Hubness: how unevenly a gallery is found. This room receives neighbour ids; it does not search."""

from demjax.hubness.statistics import k_occurrence as k_occurrence
from demjax.hubness.statistics import k_skewness as k_skewness
