"""How image features and class vectors enter a system: scaled, flattened, hidden in part."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from demjax.checks import choose
from demjax.data.dataset import Dataset
from demjax.losses import unit_rows

SCALES = {
    "none": "as they are",
    "unit": "every image at length 1",
    "standard": "every feature with mean 0 and deviation 1 over the training images",
}


def feature_scaler(dataset: Dataset, how: str) -> Callable[[jax.Array], jax.Array]:
    """The function of features [n, d] named `how`, with the statistics of the training images.

    Raises:
      UserError: an unknown name.
    """
    choose("task.features_scale", how, SCALES)
    if how == "none":
        return jnp.asarray
    if how == "unit":
        return lambda x: unit_rows(jnp.asarray(x))
    train = dataset.features[dataset.splits["trainval"]]
    mean, std = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    mean, std = mean.astype(np.float32), np.where(std > 0, std, 1.0).astype(np.float32)
    return lambda x: (x - mean[None]) / std[None]


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
