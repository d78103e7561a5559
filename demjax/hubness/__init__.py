"""Hubness: how unevenly queries hit a gallery, and corrections that even it out.

The statistics and the corrections receive neighbour ids and scores and do not search; `fit` searches a bank of
reference queries for what a correction needs.
"""

from demjax.hubness.correction import Correction as Correction
from demjax.hubness.distance import dis_sim_local as dis_sim_local
from demjax.hubness.distance import local_scaling as local_scaling
from demjax.hubness.distance import mutual_proximity_empirical as mutual_proximity_empirical
from demjax.hubness.distance import mutual_proximity_gaussian as mutual_proximity_gaussian
from demjax.hubness.distance import nicdm as nicdm
from demjax.hubness.fit import SEVERAL as SEVERAL
from demjax.hubness.fit import fit as fit
from demjax.hubness.methods import CORRECTIONS as CORRECTIONS
from demjax.hubness.methods import Method as Method
from demjax.hubness.similarity import csls as csls
from demjax.hubness.similarity import dynamic_inverted_softmax as dynamic_inverted_softmax
from demjax.hubness.similarity import globally_corrected as globally_corrected
from demjax.hubness.similarity import inverted_softmax as inverted_softmax
from demjax.hubness.similarity import nnn as nnn
from demjax.hubness.statistics import k_occurrence as k_occurrence
from demjax.hubness.statistics import k_skewness as k_skewness
from demjax.hubness.statistics import measures as measures
