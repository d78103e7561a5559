"""How image features and class vectors enter a system: scaled, flattened, hidden in part."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from demjax.checks import choose
from demjax.data.class_set import ClassSet as Dataset
from demjax.data.lazy_rows import read_rows
from demjax.losses import unit_rows

BLOCK = 4096  # images read at once
SCALES = {
    "none": "as they are",
    "unit": "every image at length 1",
    "standard": "every feature with mean 0 and deviation 1 over the training images",
}


def feature_scaler(dataset: Dataset, how: str) -> Callable[[jax.Array | np.ndarray], jax.Array]:
    """The function of features [n, d] named `how`, with the statistics of the training images.

    Raises:
      UserError: an unknown name.
    """
    choose("task.features_scale", how, SCALES)
    if how == "none":
        return jnp.asarray
    if how == "unit":
        return lambda x: unit_rows(jnp.asarray(x))
    mean, std = (x.astype(np.float32) for x in _moments(dataset))
    return lambda x: (jnp.asarray(x) - mean[None]) / std[None]


def _moments(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (1 where there is none) of each feature over the training images, in blocks, in float64."""
    ids = dataset.splits["trainval"]
    shift = read_rows(dataset.features, ids[:1]).astype(np.float64)  # near the mean: squares keep their digits
    total, square = np.zeros((2, dataset.features.shape[1]))
    for start in range(0, len(ids), BLOCK):
        x = read_rows(dataset.features, ids[start : start + BLOCK]) - shift
        total += x.sum(axis=0)
        square += np.square(x).sum(axis=0)
    mean = total / len(ids)
    std = np.sqrt(np.maximum(square / len(ids) - mean**2, 0.0))
    return shift[0] + mean, np.where(std > 0, std, 1.0)


def signed_power(x: jax.Array, power: float) -> jax.Array:
    """sign(x) |x|^power of every entry, power in (0, 1]: flattens what a few large entries dominate.

    Reference: Perronnin, Sanchez & Mensink 2010, "Improving the Fisher kernel", power normalisation.
    """
    return x if power == 1 else jnp.sign(x) * jnp.abs(x) ** power


def dropout(key: jax.Array, x: jax.Array, share: float) -> jax.Array:
    """x with about `share` of its entries at 0, the others divided by 1 - share; share below 1."""
    if share == 0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - share, x.shape), x / (1 - share), 0.0)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x_i - y_j|^2 [i, j] in float64, never [i, j, a]; of classes, of which there may be tens of thousands."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    return np.maximum((x * x).sum(axis=1)[:, None] - 2 * x @ y.T + (y * y).sum(axis=1)[None], 0.0)
