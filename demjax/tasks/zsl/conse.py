"""ConSE, a convex combination of semantic embeddings (Norouzi et al., ICLR 2014).

    p = softmax(x V + b) over the seen classes; f(x) = sum_{T likeliest} p_s a_s / sum p_s; argmax_c cos(f(x), a_c)

Batch fields: features [b, d], label [b], weight [b]; constants: seen [s]; state: seen_semantics [s, a].
Protocols: ZSL and generalised ZSL.
"""

import jax
import jax.numpy as jnp
import numpy as np

from demjax.checks import whole_number
from demjax.data import ClassSet, Spec
from demjax.data.batches import examples
from demjax.protocols import GZSL, ZSL
from demjax.search import Score
from demjax.tasks.task import Task
from demjax.tasks.zsl.inputs import class_scaler, feature_scaler
from demjax.tasks.zsl.seen_softmax import seen_cross_entropy, seen_probabilities, undecided


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
    scaler, vectors = feature_scaler(features_scale), class_scaler(semantics_scale, spec.parts)
    likeliest = min(classes, spec.n_seen)

    def embed_images(variables, images):
        top, ids = jax.lax.top_k(seen_probabilities(scaler)(variables, images["features"]), likeliest)
        combined = jnp.asarray(variables.state["seen_semantics"])[ids]
        return jnp.einsum("qt,qta->qa", top / top.sum(axis=1, keepdims=True), combined)

    def statistics(dataset: ClassSet):
        return {**scaler.statistics(dataset), "seen_semantics": dataset.class_vectors(semantics_scale)[dataset.seen]}

    return Task(
        name="conse",
        score=Score("cosine"),
        summary="visual->semantic",
        protocols=(ZSL, GZSL),
        init=undecided(spec.n_features, spec.n_seen),
        loss=seen_cross_entropy(scaler),
        batchings={"examples": examples},
        constants=lambda dataset: {"seen": dataset.seen.astype(np.int32)},
        statistics=statistics,
        embed={"image": embed_images, "class": lambda variables, classes: jnp.asarray(vectors(classes))},
    )
