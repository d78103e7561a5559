"""How image features and class vectors enter a system: scaled, flattened, hidden in part."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from demjax.checks import choose
from demjax.data import ClassSet
from demjax.data.class_set import scale_semantics
from demjax.data.lazy_rows import read_rows
from demjax.losses import unit_rows
from demjax.tasks.task import Items, State, no_statistics

BLOCK = 4096  # images read at once
FEATURES_SCALES = {
    "none": "as they are",
    "unit": "every image at length 1",
    "standard": "every feature with mean 0 and deviation 1 over the training images",
}
SEMANTICS_SCALES = {
    "none": "as the source has them",
    "unit": "every class vector at length 1",
    "sqrt": "every class vector of a source with a columns at length sqrt(a)",
}


class Scaler(NamedTuple):
    """Features scaled with statistics of the training images.

    Attributes:
      scale: (state, features [n, d]) -> [n, d]; the state is that of `Variables`.
      statistics: (dataset) -> {name: array}, what `scale` reads of the state.
    """

    scale: Callable[[State, Any], jax.Array]
    statistics: Callable[[ClassSet], dict[str, np.ndarray]]


def feature_scaler(how: str) -> Scaler:
    """The scaling of features by name: `none`, `unit` or `standard`.

    Raises:
      UserError: an unknown name.
    """
    choose("task.features_scale", how, FEATURES_SCALES)
    if how == "none":
        return Scaler(lambda state, x: jnp.asarray(x), no_statistics)
    if how == "unit":
        return Scaler(lambda state, x: unit_rows(jnp.asarray(x)), no_statistics)
    return Scaler(_standardised, _moments)


def _standardised(state: State, x: Any) -> jax.Array:
    return (jnp.asarray(x) - state["features_mean"][None]) / state["features_deviation"][None]


def _moments(dataset: ClassSet) -> dict[str, np.ndarray]:
    """Mean and deviation (1 where there is none) of each feature over the training images, in blocks, in float64."""
    ids = dataset.splits["trainval"]
    shift = read_rows(dataset.features, ids[:1]).astype(np.float64)  # near the mean: squares keep their digits
    total, square = np.zeros((2, dataset.features.shape[1]))
    for start in range(0, len(ids), BLOCK):
        x = read_rows(dataset.features, ids[start : start + BLOCK]) - shift
        total += x.sum(axis=0)
        square += np.square(x).sum(axis=0)
    mean = total / len(ids)
    deviation = np.sqrt(np.maximum(square / len(ids) - mean**2, 0.0))
    return {
        "features_mean": (shift[0] + mean).astype(np.float32),
        "features_deviation": np.where(deviation > 0, deviation, 1.0).astype(np.float32),
    }


def class_scaler(how: str, parts: Mapping[str, int]) -> Callable[[Items], np.ndarray]:
    """(items of classes) -> vectors [c, a] float32, as `ClassSet.class_vectors(how)` has them.

    Args:
      how: `none`, `unit` or `sqrt`.
      parts: columns of each source; each is scaled apart.

    Raises:
      UserError: an unknown name.
    """
    choose("task.semantics_scale", how, SEMANTICS_SCALES)
    return lambda classes: scale_semantics(np.asarray(classes["semantics"]), how, parts)


def scaled_vectors(vectors: jax.Array, how: str, parts: Mapping[str, int]) -> jax.Array:
    """The same scaling of class vectors [n, a] inside a compiled function."""
    if how == "none":
        return vectors
    ends = np.cumsum(list(parts.values()))[:-1].tolist()
    of_source = [unit_rows(x) for x in jnp.split(vectors, ends, axis=1)]
    return jnp.concatenate([x if how == "unit" else x * float(np.sqrt(x.shape[1])) for x in of_source], axis=1)


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
