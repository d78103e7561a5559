"""AMP: an absorbing Markov chain on the graph of classes (Fu, Xiang, Kodirov & Gong, CVPR 2015).

An image walks from class to class until it meets an unseen one. The image, projected by ridge regression, steps to its
nearest classes; a seen class steps to its nearest classes and, so that every walk ends, to its nearest unseen one;
unseen classes absorb. With Q the steps among seen classes and R those to unseen ones, the score is the probability to
be absorbed,

    w_seen (I - Q)^-1 R + w_unseen,        w the weights of the first step

State: class_semantics [c, a], absorbed [c, c], bandwidth: all of the graph of classes, so a trained model answers with
the classes that it was built for, by their numbers. Nothing absorbs an image in a seen class: ZSL only.
"""

import jax
import jax.numpy as jnp
import numpy as np

from demjax.checks import in_range, whole_number
from demjax.data import ClassSet, Spec
from demjax.protocols import ZSL
from demjax.search import Score
from demjax.tasks.task import State, Task, Variables
from demjax.tasks.zsl.inputs import feature_scaler, squared_distances
from demjax.tasks.zsl.linear import TO_SEMANTIC, ridge


def amp(
    spec: Spec,
    *,
    l2: int | float = 1.0,
    neighbours: int = 5,
    bandwidth: int | float = 1.0,
    features_scale: str = "none",
    semantics_scale: str = "unit",
) -> Task:
    """Images absorbed in the unseen classes of a graph.

    Args:
      spec: gives the number of classes and the sources of semantics.
      l2: lambda of the projection, > 0.
      neighbours: of a class and of an image in the graph, 1 to the number of classes less one.
      bandwidth: of the weights exp(-|a - b|^2 / (bandwidth m)), m the mean squared distance of classes; > 0.
      features_scale, semantics_scale: as for `ridge`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    whole_number("task.neighbours", neighbours, 1, spec.n_classes - 1)
    in_range("task.bandwidth", bandwidth, 0, open_low=True)
    scales = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    projection, scaler = ridge(spec, direction=TO_SEMANTIC, l2=l2, **scales), feature_scaler(features_scale)

    def graph(dataset):
        return _graph(dataset, semantics_scale, neighbours, bandwidth)

    def solve(dataset):
        params, state = projection.solve(dataset)
        return Variables(params, {**state, **graph(dataset)})

    return Task(
        name="amp",
        score=Score("dot"),
        summary=TO_SEMANTIC,
        protocols=(ZSL,),
        solve=solve,
        statistics=lambda dataset: {**scaler.statistics(dataset), **graph(dataset)},
        reads={"class": ("id",)},
        embed={
            "image": lambda variables, images: _first_step(
                projection.embed["image"](variables, images), variables.state, neighbours
            ),
            "class": lambda variables, classes: jnp.asarray(variables.state["absorbed"])[classes["id"]],
        },
    )


def _graph(dataset: ClassSet, semantics_scale: str, neighbours: int, bandwidth: int | float) -> dict[str, np.ndarray]:
    """The vectors of all classes, where walks from them end, and the bandwidth in squared distances."""
    table, seen = dataset.class_vectors(semantics_scale), dataset.seen
    width = bandwidth * float(2 * (np.mean(table.astype(np.float64) ** 2, axis=0) - table.mean(axis=0) ** 2).sum())
    weights = np.exp(-squared_distances(table[seen], table) / width)
    absorbed = _absorption(weights, neighbours, seen, dataset.unseen, len(table))
    return {"class_semantics": table, "absorbed": absorbed, "bandwidth": np.array(width, np.float32)}


def _first_step(projected: jax.Array, state: State, neighbours: int) -> jax.Array:
    """Weights [q, c] of the classes to which each projected image steps first."""
    table = state["class_semantics"]
    d2 = jnp.sum(projected**2, axis=1)[:, None] - 2 * projected @ table.T + jnp.sum(table**2, axis=1)[None]
    near, ids = jax.lax.top_k(-d2, neighbours)
    weights = jax.nn.softmax(near / state["bandwidth"], axis=1)
    return jnp.zeros_like(d2).at[jnp.arange(len(d2))[:, None], ids].set(weights)


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
