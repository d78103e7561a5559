"""Flax NNX modules: no config, no files, no devices of their own."""

from demjax.models.mlp import INITIALISERS as INITIALISERS
from demjax.models.mlp import SemanticEncoder as SemanticEncoder
