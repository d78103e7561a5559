"""ConSE, a convex combination of semantic embeddings (Norouzi et al., ICLR 2014).

    p = softmax(x V + b) over the seen classes; f(x) = sum_{T likeliest} p_s a_s / sum p_s; argmax_c cos(f(x), a_c)

Batch fields: features [b, d], label [b], weight [b]; constants: seen [s]; state: seen_semantics [s, a].
Protocols: ZSL and generalised ZSL.
"""

import jax
import jax.numpy as jnp

from demjax.checks import whole_number
from demjax.data import Spec
from demjax.search import Score
from demjax.tasks.task import Task
from demjax.tasks.zsl.seen_softmax import cross_entropy, probabilities, undecided
from demjax.tasks.zsl.trained import seen, trained


def conse(spec: Spec, *, classes: int = 10, features_scale: str = "unit", semantics_scale: str = "unit") -> Task:
    """Convex combination of semantic embeddings.

    Args:
      spec: gives d and the number of seen classes.
      classes: T, how many of the likeliest seen classes are combined, >= 1; all where there are fewer.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    whole_number("task.classes", classes, 1)
    likeliest = min(classes, spec.n_seen)

    def f(variables, x):
        top, ids = jax.lax.top_k(probabilities(variables, x), likeliest)
        combined = jnp.asarray(variables.state["seen_semantics"])[ids]
        return jnp.einsum("qt,qta->qa", top / top.sum(axis=1, keepdims=True), combined)

    return trained(
        "conse",
        spec,
        features_scale,
        semantics_scale,
        score=Score("cosine"),
        summary="visual->semantic",
        init=undecided(spec.n_features, spec.n_seen),
        each=cross_entropy,
        image=f,
        constants=seen,
        statistics=lambda dataset: {"seen_semantics": dataset.class_vectors(semantics_scale)[dataset.seen]},
    )
