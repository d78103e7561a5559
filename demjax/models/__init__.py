"""Flax NNX modules: no config, no files, no devices of their own."""

from demjax.models.class_norm import DIVIDE_BY as DIVIDE_BY
from demjax.models.class_norm import OUTPUT_INIT as OUTPUT_INIT
from demjax.models.class_norm import ClassNormEncoder as ClassNormEncoder
from demjax.models.lstm import DescriptionEncoder as DescriptionEncoder
from demjax.models.lstm_loop import CELLS as CELLS
from demjax.models.mlp import INITIALISERS as INITIALISERS
from demjax.models.mlp import OUTPUTS as OUTPUTS
from demjax.models.mlp import FusedEncoder as FusedEncoder
from demjax.models.mlp import SemanticEncoder as SemanticEncoder
from demjax.models.text import CHARACTERS as CHARACTERS
from demjax.models.text import ENCODERS as ENCODERS
from demjax.models.text import LENGTHS as LENGTHS
from demjax.models.text import VECTORS as VECTORS
from demjax.models.text import WORDS as WORDS
from demjax.models.text import TextEncoder as TextEncoder
