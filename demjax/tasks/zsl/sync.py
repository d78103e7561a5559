"""SynC, synthesised classifiers (Changpinyo, Chao, Gong & Sha, CVPR 2016), the "fast" version.

    s_c(x) = x . w_c; every seen class against the others by the squared hinge max(0, 1 - y w_c x)^2, averaged over the
    classes, + l2/2 sum_c |w_c|^2

Then any class is a mixture of bases of the seen ones r:

    w_c = sum_r s_cr v_r,   V = pinv(S of the seen classes) W,   s_cr = exp(-gamma |a_c - a_r|^2) / sum_r' ...

The mixtures are made in float64 on the host. Batch fields: features [b, d], label [b], weight [b]; constants: seen [s],
l2; state: seen_semantics [s, a]. Protocols: ZSL and generalised ZSL.
"""

import jax.numpy as jnp
import numpy as np

from demjax import losses
from demjax.checks import in_range
from demjax.data import Spec
from demjax.search import Score
from demjax.tasks.task import Task
from demjax.tasks.zsl.inputs import squared_distances
from demjax.tasks.zsl.trained import seen, trained


def sync(
    spec: Spec,
    *,
    gamma: int | float = 1.0,
    l2: int | float = 1e-5,
    features_scale: str = "unit",
    semantics_scale: str = "unit",
) -> Task:
    """Synthesised classifiers: of the seen classes, one against the others; of all, mixtures of their bases.

    Args:
      spec: gives d and the number of seen classes.
      gamma: > 0, how local the mixtures are; the authors try 2^-5 to 2^5.
      l2: >= 0, of the classifiers w_c; the authors try 2^-30 to 2^-8.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.gamma", gamma, 0, open_low=True)
    in_range("task.l2", l2, 0)

    def each(variables, x, batch):
        sign = jnp.where(batch["seen"][None] == batch["label"][:, None], 1.0, -1.0)
        wrong = jnp.square(jnp.maximum(0.0, 1.0 - sign * (x @ variables.params["classifiers"].T)))
        return wrong.mean(axis=1) + batch["l2"] / 2 * losses.squared_norm(variables.params, biases=False)

    def synthesised(variables, table):
        of_seen = np.asarray(variables.state["seen_semantics"])
        classifiers = np.asarray(variables.params["classifiers"], np.float64)
        bases = np.linalg.pinv(similarities(of_seen, of_seen, gamma)) @ classifiers
        return jnp.asarray(similarities(table, of_seen, gamma) @ bases, jnp.float32)

    return trained(
        "sync",
        spec,
        features_scale,
        semantics_scale,
        score=Score("dot"),
        summary="semantic->visual",
        init=lambda key: {"classifiers": jnp.zeros((spec.n_seen, spec.n_features), jnp.float32)},
        each=each,
        classes=synthesised,
        numbers={"l2": l2},
        constants=seen,
        statistics=lambda dataset: {"seen_semantics": dataset.class_vectors(semantics_scale)[dataset.seen]},
    )


def similarities(table: np.ndarray, seen: np.ndarray, gamma: int | float) -> np.ndarray:
    """s_cr [c, s] in float64, of class vectors [c, a] and those of the seen classes [s, a]; rows sum to one."""
    squared = squared_distances(table, seen)
    weights = np.exp(-gamma * (squared - squared.min(axis=1, keepdims=True)))
    return weights / weights.sum(axis=1, keepdims=True)
