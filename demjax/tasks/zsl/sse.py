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
from demjax.data.lazy_rows import read_rows
from demjax.data.splits import by_class
from demjax.search import Score
from demjax.tasks.task import Task
from demjax.tasks.zsl.inputs import feature_scaler
from demjax.tasks.zsl.trained import seen, trained, truth

SIMPLEX_STEPS = 500


def _start(spec: Spec, key: jax.Array) -> dict[str, jax.Array]:
    """Weights near -1; offsets 0 from the class means."""
    noise = 0.01 * jax.random.normal(key, (spec.n_features,), jnp.float32)
    return {"weights": noise - 1.0, "offsets": jnp.zeros((spec.n_seen, spec.n_features), jnp.float32)}


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

    def pi(variables, x):
        """w . max(0, x - v_r) [q, s]: one seen class after the other, never [q, s, d]."""
        offsets, weights = variables.state["class_means"] + variables.params["offsets"], variables.params["weights"]
        return jax.lax.map(lambda v: jnp.maximum(x - v[None], 0.0) @ weights, offsets).T

    def psi(variables, table):
        return jnp.asarray(simplex_mixtures(table, np.asarray(variables.state["seen_semantics"]), gamma))

    def each(variables, x, batch):
        scores = pi(variables, x) @ batch["mixtures"].T
        return losses.violations(scores, truth(batch), batch["margin"]).max(axis=1)

    def of_seen(dataset: ClassSet) -> np.ndarray:
        return dataset.class_vectors(semantics_scale)[dataset.seen]

    def constants(dataset: ClassSet):
        return {"mixtures": simplex_mixtures(of_seen(dataset), of_seen(dataset), gamma), **seen(dataset)}

    def statistics(dataset: ClassSet):
        return {"class_means": _class_means(dataset, features_scale), "seen_semantics": of_seen(dataset)}

    return trained(
        "sse",
        spec,
        features_scale,
        semantics_scale,
        score=Score("dot"),
        summary="both",
        init=lambda key: _start(spec, key),
        each=each,
        image=pi,
        classes=psi,
        numbers={"margin": margin},
        constants=constants,
        statistics=statistics,
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


def _class_means(dataset: ClassSet, features_scale: str) -> np.ndarray:
    """The mean [s, d] of the scaled features of each seen class."""
    scaler = feature_scaler(features_scale)
    state = scaler.statistics(dataset)
    means = np.zeros((len(dataset.seen), dataset.features.shape[1]), np.float32)
    for row, (_, images) in enumerate(by_class(dataset.splits["trainval"], dataset.labels)):
        means[row] = np.asarray(scaler.scale(state, read_rows(dataset.features, images))).mean(axis=0)
    return means
