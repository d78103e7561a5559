"""Exact nearest neighbours and ranks: scores are greater-is-nearer, ties go to the lowest id."""

from demjax.search.nearest import PRECISIONS as PRECISIONS
from demjax.search.nearest import Neighbours as Neighbours
from demjax.search.nearest import nearest as nearest
from demjax.search.ranks import TIES as TIES
from demjax.search.ranks import ranks as ranks
from demjax.search.score import SCORES as SCORES
from demjax.search.score import Pair as Pair
from demjax.search.score import Score as Score
from demjax.search.summaries import all_scores as all_scores
from demjax.search.summaries import log_sum_exp as log_sum_exp
from demjax.search.summaries import moments as moments
