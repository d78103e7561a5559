"""DAP and IAP, direct and indirect attribute prediction (Lampert, Nickisch & Harmeling, CVPR 2009).

    DAP    p(a_m | x) = sigmoid(x V + b)
    IAP    p(a_m | x) = sum_s p_s(x) B_sm,  p = softmax(x V + b) over the seen classes
    both   argmax_c sum_m log p(a_m = B_cm | x) - log p(a_m = B_cm)

B are the attributes as yes or no: above the mean of the attribute over the seen classes. p(a_m) is the share of seen
classes that have it. Probabilities stay in [1e-6, 1 - 1e-6], so that one certain attribute cannot decide alone.

Batch fields: features [b, d], label [b], weight [b]; constants: binary [c, a] (DAP), seen [s] (IAP); state:
attribute_mean [a], seen_has [s, a]. Protocols: ZSL and generalised ZSL.
"""

import jax
import jax.numpy as jnp
import numpy as np

from demjax.data import ClassSet, Spec
from demjax.data.batches import examples
from demjax.protocols import GZSL, ZSL
from demjax.search import Score
from demjax.tasks.task import Items, Task, Variables
from demjax.tasks.zsl.inputs import feature_scaler
from demjax.tasks.zsl.seen_softmax import logits, seen_cross_entropy, seen_probabilities, undecided

LEAST = 1e-6


def iap(spec: Spec, *, features_scale: str = "unit") -> Task:
    """Indirect attribute prediction: attributes by way of the seen classes.

    Args:
      spec: gives d and the number of seen classes.
      features_scale: `none`, `unit` or `standard`.

    Raises:
      UserError: an unknown scale.
    """
    scaler = feature_scaler(features_scale)

    def embed_images(variables, images):
        p = seen_probabilities(scaler)(variables, images["features"])
        return _evidence(p @ variables.state["seen_has"])

    return Task(
        name="iap",
        score=Score("dot"),
        summary="visual->semantic",
        protocols=(ZSL, GZSL),
        init=undecided(spec.n_features, spec.n_seen),
        loss=seen_cross_entropy(scaler),
        batchings={"examples": examples},
        constants=lambda dataset: {"seen": dataset.seen.astype(np.int32)},
        statistics=lambda dataset: {**scaler.statistics(dataset), **attributes_of_seen(dataset)},
        embed={"image": embed_images, "class": expected},
    )


def dap(spec: Spec, *, features_scale: str = "unit") -> Task:
    """Direct attribute prediction: one classifier for each attribute.

    Args:
      spec: gives d and a.
      features_scale: `none`, `unit` or `standard`.

    Raises:
      UserError: an unknown scale.
    """
    scaler = feature_scaler(features_scale)

    def loss(variables, batch, key, axis):
        del key, axis
        z = logits(scaler)(variables, batch["features"])
        wrong = jax.nn.softplus(jnp.where(batch["binary"][batch["label"]], -z, z)).sum(axis=1)
        return jnp.sum(batch["weight"] * wrong), jnp.sum(batch["weight"]), {}, variables.state

    def constants(dataset: ClassSet):
        table = dataset.class_vectors("none")
        return {"binary": table > table[dataset.seen].mean(axis=0)}

    return Task(
        name="dap",
        score=Score("dot"),
        summary="visual->semantic",
        protocols=(ZSL, GZSL),
        init=undecided(spec.n_features, spec.n_semantics),
        loss=loss,
        batchings={"examples": examples},
        constants=constants,
        statistics=lambda dataset: {**scaler.statistics(dataset), **attributes_of_seen(dataset)},
        embed={
            "image": lambda variables, images: _evidence(jax.nn.sigmoid(logits(scaler)(variables, images["features"]))),
            "class": expected,
        },
    )


def attributes_of_seen(dataset: ClassSet) -> dict[str, np.ndarray]:
    """The mean of each attribute over the seen classes, and which of them have more of it (1 or 0)."""
    seen = dataset.class_vectors("none")[dataset.seen]
    mean = seen.mean(axis=0)
    return {"attribute_mean": mean, "seen_has": (seen > mean).astype(np.float32)}


def _evidence(probability: jax.Array) -> jax.Array:
    """[q, 2 a + 1]: what every answer of every attribute is worth, and a one for the prior."""
    p = jnp.clip(probability, LEAST, 1 - LEAST)
    return jnp.concatenate([jnp.log(p), jnp.log1p(-p), jnp.ones_like(p[:, :1])], axis=1)


def expected(variables: Variables, classes: Items) -> jax.Array:
    """[c, 2 a + 1]: which answers each class expects, and minus the logarithm of their prior."""
    mean, seen_has = (np.asarray(variables.state[name]) for name in ("attribute_mean", "seen_has"))
    binary = np.asarray(classes["semantics"], np.float32) > mean
    prior = np.clip(seen_has.astype(np.float64).mean(axis=0), LEAST, 1 - LEAST)
    of_class = np.where(binary, np.log(prior), np.log1p(-prior)).sum(axis=1)
    return jnp.asarray(np.concatenate([binary, ~binary, -of_class[:, None]], axis=1), jnp.float32)
