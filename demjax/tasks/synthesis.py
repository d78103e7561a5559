"""Classes as mixtures of seen ones: SynC and SSE.

    SynC  s_c(x) = x . w_c; every seen class against the others by the squared hinge max(0, 1 - y w_c x)^2,
          + l2/2 sum_c |w_c|^2; then w_c = sum_r s_cr v_r for any class, V = pinv(S of the seen classes) W,
          s_cr = exp(-gamma |a_c - a_r|^2) / sum_r' ..., r the seen classes (the "fast" version)
    SSE   psi(a_c) = argmin_{p >= 0, sum p = 1} |a_c - sum_r p_r a_r|^2 / 2 + gamma |p|^2 / 2;
          s_c(x) = sum_r psi_r(a_c) w . max(0, x - v_r); largest violation of the margin

References: Changpinyo, Chao, Gong & Sha 2016. Zhang & Saligrama 2015 (their "ReLU" target; one weight per feature).

Batch fields: features [b, d], label [b], weight [b]; tables: seen [s] and l2; mixtures [s, s], seen and margin.
"""

import jax
import jax.numpy as jnp
import numpy as np

from demjax import losses
from demjax.checks import in_range
from demjax.data.class_set import ClassSet as Dataset
from demjax.data.lazy_rows import read_rows
from demjax.data.splits import by_class
from demjax.tasks.scaling import feature_scaler, squared_distances
from demjax.tasks.task import Task

SIMPLEX_STEPS = 500


def similarities(table: np.ndarray, seen: np.ndarray, gamma: int | float) -> np.ndarray:
    """s_cr [c, s] of SynC, in float64; rows sum to one."""
    squared = squared_distances(table, table[seen])
    weights = np.exp(-gamma * (squared - squared.min(axis=1, keepdims=True)))
    return weights / weights.sum(axis=1, keepdims=True)


def sync(
    dataset: Dataset,
    *,
    gamma: int | float = 1.0,
    l2: int | float = 1e-5,
    features_scale: str = "unit",
    semantics_scale: str = "unit",
) -> Task:
    """Synthesised classifiers: of the seen classes, one against the others; of all, mixtures of their bases.

    Args:
      gamma: > 0, how local the mixtures are; the authors try 2^-5 to 2^5.
      l2: >= 0, of the classifiers w_c; the authors try 2^-30 to 2^-8.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.gamma", gamma, 0, open_low=True)
    in_range("task.l2", l2, 0)
    seen, scaler = dataset.seen, feature_scaler(dataset, features_scale)
    own = similarities(dataset.class_vectors(semantics_scale), seen, gamma)
    mixtures = (own @ np.linalg.pinv(own[seen])).astype(np.float32)  # of classifiers, through their bases

    def loss(params, batch, key, axis):
        del key, axis
        scores = scaler(batch["features"]) @ params["classifiers"].T
        sign = jnp.where(batch["seen"][None] == batch["label"][:, None], 1.0, -1.0)
        wrong = jnp.square(jnp.maximum(0.0, 1.0 - sign * scores)).mean(axis=1)
        count = jnp.sum(batch["weight"])
        penalty = batch["l2"] / 2 * losses.squared_norm(params, biases=False)
        return jnp.sum(batch["weight"] * wrong) + count * penalty, count, {}

    return Task(
        name="sync",
        score="dot",
        direction="semantic->visual",
        tables={"seen": seen.astype(np.int32), "l2": np.float32(l2)},
        numbers=("l2",),
        init=lambda key: {"classifiers": jnp.zeros((len(seen), dataset.features.shape[1]))},
        loss=loss,
        queries=lambda params, features: scaler(features),
        gallery=lambda params, dataset, ids: jnp.asarray(mixtures[ids]) @ params["classifiers"],
    )


def onto_simplex(v: np.ndarray) -> np.ndarray:
    """The nearest point of {p >= 0, sum p = 1} to each row (Held, Wolfe & Crowder 1974)."""
    ordered = -np.sort(-v, axis=1)
    excess = np.cumsum(ordered, axis=1) - 1
    count = np.sum(ordered > excess / np.arange(1, v.shape[1] + 1), axis=1)
    return np.maximum(v - (excess[np.arange(len(v)), count - 1] / count)[:, None], 0)


def simplex_mixtures(table: np.ndarray, seen: np.ndarray, gamma: int | float) -> np.ndarray:
    """psi(a_c) [c, s] of SSE, by accelerated projected gradients (Nesterov 1983) in float64."""
    bases = table[seen].astype(np.float64)
    gram = bases @ bases.T + gamma * np.eye(len(seen))
    target, step = table.astype(np.float64) @ bases.T, 1 / np.linalg.eigvalsh(gram)[-1]
    p = ahead = np.full((len(table), len(seen)), 1 / len(seen))
    t = 1.0
    for _ in range(SIMPLEX_STEPS):
        new, grown = onto_simplex(ahead - step * (ahead @ gram - target)), (1 + np.sqrt(1 + 4 * t * t)) / 2
        ahead, p, t = new + (t - 1) / grown * (new - p), new, grown
    return p.astype(np.float32)


def sse(
    dataset: Dataset,
    *,
    gamma: int | float = 0.1,
    margin: int | float = 1.0,
    features_scale: str = "unit",
    semantics_scale: str = "unit",
) -> Task:
    """Semantic similarity embedding with the rectified target.

    Args:
      gamma: >= 0, how even the mixtures are.
      margin: > 0.
      features_scale, semantics_scale: as for `sync`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.gamma", gamma, 0)
    in_range("task.margin", margin, 0, open_low=True)
    seen, scaler = dataset.seen, feature_scaler(dataset, features_scale)
    psi = simplex_mixtures(dataset.class_vectors(semantics_scale), seen, gamma)
    d = dataset.features.shape[1]

    def queries(params, features):
        """pi(x) [q, s]: one seen class after the other, never [q, s, d]."""
        x = scaler(features)
        of_class = jax.lax.map(lambda v: jnp.maximum(x - v[None], 0.0) @ params["weights"], params["offsets"])
        return of_class.T

    def loss(params, batch, key, axis):
        del key, axis
        scores = queries(params, batch["features"]) @ batch["mixtures"].T
        truth = jnp.searchsorted(batch["seen"], batch["label"])
        wrong = losses.violations(scores, truth, batch["margin"]).max(axis=1)
        return jnp.sum(batch["weight"] * wrong), jnp.sum(batch["weight"]), {}

    offsets = np.zeros((len(seen), d), np.float32)
    for row, (_, images) in enumerate(by_class(dataset.splits["trainval"], dataset.labels)):
        # class means: an image stands out from the classes it is not of
        offsets[row] = np.asarray(scaler(read_rows(dataset.features, images))).mean(axis=0)

    def init(key):
        return {"weights": -jnp.ones(d) + 0.01 * jax.random.normal(key, (d,)), "offsets": jnp.asarray(offsets)}

    return Task(
        name="sse",
        score="dot",
        direction="both",
        tables={"mixtures": psi[seen], "seen": seen.astype(np.int32), "margin": np.float32(margin)},
        numbers=("margin",),
        init=init,
        loss=loss,
        queries=queries,
        gallery=lambda params, dataset, ids: jnp.asarray(psi[ids]),
    )
