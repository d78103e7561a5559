"""The outside world becomes checked arrays: `load` returns a Dataset, whatever the source."""

from demjax.data.dataset import Dataset as Dataset
from demjax.data.load import load as load
from demjax.data.npy import open_npy as open_npy
