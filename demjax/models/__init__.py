"""Flax NNX modules: no config, no files, no devices of their own."""

from demjax.models.class_norm import DIVIDE_BY as DIVIDE_BY
from demjax.models.class_norm import OUTPUT_INIT as OUTPUT_INIT
from demjax.models.class_norm import ClassNormEncoder as ClassNormEncoder
from demjax.models.lstm import CELLS as CELLS
from demjax.models.lstm import DescriptionEncoder as DescriptionEncoder
from demjax.models.mlp import INITIALISERS as INITIALISERS
from demjax.models.mlp import OUTPUTS as OUTPUTS
from demjax.models.mlp import FusedEncoder as FusedEncoder
from demjax.models.mlp import SemanticEncoder as SemanticEncoder
