"""AMP: an absorbing Markov chain on the graph of classes (Fu, Xiang, Kodirov & Gong, CVPR 2015)."""

import jax
import jax.numpy as jnp
import numpy as np

from demjax.checks import in_range
from demjax.data.dataset import Dataset
from demjax.tasks.linear import DIRECTIONS, ridge
from demjax.tasks.scaling import feature_scaler
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
    table, scaler = dataset.table(semantics_scale), feature_scaler(dataset, features_scale)
    squared = ((table[:, None].astype(np.float64) - table[None]) ** 2).sum(axis=-1)
    width = bandwidth * squared.mean()
    absorbed = _absorption(np.exp(-squared / width), neighbours, dataset.seen, dataset.unseen)

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


def _absorption(weights: np.ndarray, neighbours: int, seen: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """[c, c]: row u, column s: the probability that a walk from s ends in the unseen u; rows of seen classes are 0."""
    n = len(weights)
    others = weights - 2 * np.eye(n)  # never a step to itself
    keep = np.zeros((n, n), bool)
    np.put_along_axis(keep, np.argsort(-others, axis=1, kind="stable")[:, :neighbours], True, axis=1)
    keep[seen, unseen[np.argmax(weights[np.ix_(seen, unseen)], axis=1)]] = True
    steps = np.where(keep, weights, 0.0)
    steps /= steps.sum(axis=1, keepdims=True)
    absorbed = np.eye(n)
    absorbed[:, seen] = 0.0
    transient, ending = steps[np.ix_(seen, seen)], steps[np.ix_(seen, unseen)]
    absorbed[np.ix_(unseen, seen)] = np.linalg.solve(np.eye(len(seen)) - transient, ending).T
    return absorbed.astype(np.float32)
