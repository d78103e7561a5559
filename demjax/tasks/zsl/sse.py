"""SSE, semantic similarity embedding (Zhang & Saligrama, ICCV 2015), with the rectified target.

    psi(a_c) = argmin_{p >= 0, sum p = 1} |a_c - sum_r p_r a_r|^2 / 2 + gamma |p|^2 / 2,   r the seen classes
    s_c(x) = sum_r psi_r(a_c) w . max(0, x - v_r)          loss  the largest violation of the margin

One weight w for each feature. The offsets v_r start at the means of the seen classes, from which an image of another
class stands out: the parameters are the differences from the means, and start at 0.

Batch fields: features [b, d], label [b], weight [b]; constants: mixtures [s, s], seen [s], margin; state:
seen_semantics [s, a], class_means [s, d]. Protocols: ZSL and generalised ZSL.
"""

import jax
import jax.numpy as jnp
import numpy as np

from demjax import losses
from demjax.checks import in_range
from demjax.data import ClassSet, Spec
from demjax.data.batches import examples
from demjax.data.lazy_rows import read_rows
from demjax.data.splits import by_class
from demjax.protocols import GZSL, ZSL
from demjax.search import Score
from demjax.tasks.task import Task, Variables
from demjax.tasks.zsl.inputs import Scaler, class_scaler, feature_scaler

SIMPLEX_STEPS = 500


def sse(
    spec: Spec,
    *,
    gamma: int | float = 0.1,
    margin: int | float = 1.0,
    features_scale: str = "unit",
    semantics_scale: str = "unit",
) -> Task:
    """Semantic similarity embedding.

    Args:
      spec: gives d and the number of seen classes.
      gamma: >= 0, how even the mixtures are.
      margin: > 0.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.gamma", gamma, 0)
    in_range("task.margin", margin, 0, open_low=True)
    scaler, vectors = feature_scaler(features_scale), class_scaler(semantics_scale, spec.parts)
    pi = _image_side(scaler)

    def statistics(dataset: ClassSet):
        seen = dataset.class_vectors(semantics_scale)[dataset.seen]
        return _class_means(dataset, scaler) | {"seen_semantics": seen}

    def constants(dataset: ClassSet):
        seen = dataset.class_vectors(semantics_scale)[dataset.seen]
        mixtures = simplex_mixtures(seen, seen, gamma)
        return {"mixtures": mixtures, "seen": dataset.seen.astype(np.int32), "margin": np.float32(margin)}

    def embed_classes(variables, classes):
        return jnp.asarray(simplex_mixtures(vectors(classes), np.asarray(variables.state["seen_semantics"]), gamma))

    return Task(
        name="sse",
        score=Score("dot"),
        summary="both",
        protocols=(ZSL, GZSL),
        init=_init(spec),
        loss=_loss(pi),
        batchings={"examples": examples},
        constants=constants,
        sweepable=("margin",),
        statistics=statistics,
        embed={"image": lambda variables, images: pi(variables, images["features"]), "class": embed_classes},
    )


def onto_simplex(v: np.ndarray) -> np.ndarray:
    """The nearest point of {p >= 0, sum p = 1} to each row (Held, Wolfe & Crowder 1974)."""
    ordered = -np.sort(-v, axis=1)
    excess = np.cumsum(ordered, axis=1) - 1
    count = np.sum(ordered > excess / np.arange(1, v.shape[1] + 1), axis=1)
    return np.maximum(v - (excess[np.arange(len(v)), count - 1] / count)[:, None], 0)


def simplex_mixtures(table: np.ndarray, seen: np.ndarray, gamma: int | float) -> np.ndarray:
    """psi [c, s] of class vectors [c, a] over those of the seen classes [s, a].

    By accelerated projected gradients in float64 (Nesterov 1983).
    """
    bases = seen.astype(np.float64)
    gram = bases @ bases.T + gamma * np.eye(len(seen))
    target, step = table.astype(np.float64) @ bases.T, 1 / np.linalg.eigvalsh(gram)[-1]
    p = ahead = np.full((len(table), len(seen)), 1 / len(seen))
    t = 1.0
    for _ in range(SIMPLEX_STEPS):
        new, grown = onto_simplex(ahead - step * (ahead @ gram - target)), (1 + np.sqrt(1 + 4 * t * t)) / 2
        ahead, p, t = new + (t - 1) / grown * (new - p), new, grown
    return p.astype(np.float32)


def _class_means(dataset: ClassSet, scaler: Scaler) -> dict[str, np.ndarray]:
    """The mean [s, d] of the scaled features of each seen class, and the statistics of the scaling."""
    state = scaler.statistics(dataset)
    means = np.zeros((len(dataset.seen), dataset.features.shape[1]), np.float32)
    for row, (_, images) in enumerate(by_class(dataset.splits["trainval"], dataset.labels)):
        means[row] = np.asarray(scaler.scale(state, read_rows(dataset.features, images))).mean(axis=0)
    return {**state, "class_means": means}


def _init(spec: Spec):
    def init(key):
        noise = 0.01 * jax.random.normal(key, (spec.n_features,), jnp.float32)
        return Variables({"weights": noise - 1.0, "offsets": jnp.zeros((spec.n_seen, spec.n_features), jnp.float32)})

    return init


def _image_side(scaler: Scaler):
    def pi(variables, features):
        """pi(x) [q, s]: one seen class after the other, never [q, s, d]."""
        x, weights = scaler.scale(variables.state, features), variables.params["weights"]
        offsets = variables.state["class_means"] + variables.params["offsets"]
        return jax.lax.map(lambda v: jnp.maximum(x - v[None], 0.0) @ weights, offsets).T

    return pi


def _loss(pi):
    def loss(variables, batch, key, axis):
        del key, axis
        scores = pi(variables, batch["features"]) @ batch["mixtures"].T
        truth = jnp.searchsorted(batch["seen"], batch["label"])
        wrong = losses.violations(scores, truth, batch["margin"]).max(axis=1)
        return jnp.sum(batch["weight"] * wrong), jnp.sum(batch["weight"]), {}, variables.state

    return loss
