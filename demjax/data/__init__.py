"""The outside world becomes checked arrays: `load` returns a Dataset, whatever the source."""

from demjax.data.batches import Rows as Rows
from demjax.data.class_set import ClassSet as ClassSet
from demjax.data.dataset import Dataset as Dataset
from demjax.data.dataset import Spec as Spec
from demjax.data.lazy_rows import Indexed as Indexed
from demjax.data.load import load as load
from demjax.data.npy import open_npy as open_npy
