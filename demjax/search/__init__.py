"""Exact nearest neighbours: scores are greater-is-nearer, ties go to the lowest id."""

from demjax.search.exact import SCORES as SCORES
from demjax.search.exact import Neighbours as Neighbours
from demjax.search.exact import nearest as nearest
