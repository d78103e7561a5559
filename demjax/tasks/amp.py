"""AMP: an absorbing Markov chain on the graph of classes (Fu, Xiang, Kodirov & Gong, CVPR 2015)."""

import jax
import jax.numpy as jnp
import numpy as np

from demjax.checks import in_range
from demjax.data.class_set import ClassSet as Dataset
from demjax.tasks.linear import DIRECTIONS, ridge
from demjax.tasks.scaling import feature_scaler, squared_distances
from demjax.tasks.task import Task


def amp(
    dataset: Dataset,
    *,
    l2: int | float = 1.0,
    neighbours: int = 5,
    bandwidth: int | float = 1.0,
    features_scale: str = "none",
    semantics_scale: str = "unit",
) -> Task:
    """An image walks from class to class until it meets an unseen one.

    The image, projected by ridge regression, steps to its nearest classes; a seen class steps to its nearest classes
    and, so that every walk ends, to its nearest unseen one; unseen classes absorb. With Q the steps among seen classes
    and R those to unseen ones, the score is the probability to be absorbed, w_seen (I - Q)^-1 R + w_unseen. Nothing
    absorbs an image in a seen class: ZSL only.

    Args:
      l2: lambda of the projection, > 0.
      neighbours: of a class and of an image in the graph, 1 to the number of classes less one.
      bandwidth: of the weights exp(-|a - b|^2 / (bandwidth m)), m the mean squared distance of classes; > 0.
      features_scale, semantics_scale: as for `ridge`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.l2", l2, 0, open_low=True)
    in_range("task.neighbours", neighbours, 1, len(dataset.classes) - 1)
    in_range("task.bandwidth", bandwidth, 0, open_low=True)
    table, scaler = dataset.class_vectors(semantics_scale), feature_scaler(dataset, features_scale)
    width = bandwidth * float(2 * (np.mean(table.astype(np.float64) ** 2, axis=0) - table.mean(axis=0) ** 2).sum())
    weights = np.exp(-squared_distances(table[dataset.seen], table) / width)
    absorbed = _absorption(weights, neighbours, dataset.seen, dataset.unseen, len(table))

    def queries(params, x):
        """Weights [q, c] of the first step."""
        projected = scaler(x) @ params["weights"]
        d2 = jnp.sum(projected**2, axis=1)[:, None] - 2 * projected @ table.T + np.sum(table**2, axis=1)[None]
        near, ids = jax.lax.top_k(-d2, neighbours)
        weights = jax.nn.softmax(near / width, axis=1)
        return jnp.zeros_like(d2).at[jnp.arange(len(d2))[:, None], ids].set(weights)

    scales = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    inner = ridge(dataset, direction=DIRECTIONS[1], l2=l2, **scales)
    return Task(
        name="amp",
        score="dot",
        direction=DIRECTIONS[1],
        solve=inner.solve,
        queries=queries,
        gallery=lambda params, dataset, ids: jnp.asarray(absorbed[ids]),
        protocols=("zsl",),
    )


def _absorption(
    weights: np.ndarray, neighbours: int, seen: np.ndarray, unseen: np.ndarray, n_classes: int
) -> np.ndarray:
    """[c, c]: row u, column s: the probability that a walk from s ends in the unseen u; rows of seen classes are 0.

    `weights` [s, c] are those of the seen classes with all: only from them is there a step.
    """
    others, here = weights.copy(), np.arange(len(seen))
    others[here, seen] = -1.0  # never a step to itself
    keep = np.zeros(weights.shape, bool)
    np.put_along_axis(keep, np.argsort(-others, axis=1, kind="stable")[:, :neighbours], True, axis=1)
    keep[here, unseen[np.argmax(weights[:, unseen], axis=1)]] = True
    steps = np.where(keep, weights, 0.0)
    steps /= steps.sum(axis=1, keepdims=True)
    absorbed = np.eye(n_classes, dtype=np.float32)
    absorbed[:, seen] = 0.0
    absorbed[np.ix_(unseen, seen)] = np.linalg.solve(np.eye(len(seen)) - steps[:, seen], steps[:, unseen]).T
    return absorbed
