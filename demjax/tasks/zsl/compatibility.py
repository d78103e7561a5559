"""Bilinear compatibility, s_c(x) = x W a_c, trained to rank the true class first: SJE, DeViSE, ALE, LatEm.

With the violations v_c = max(0, margin + s_c - s_t) of an image of class t, over the seen classes c != t,

    SJE      max_c v_c                                    Akata, Reed, Walter, Lee & Schiele 2015
    DeViSE   sum_c v_c                                    Frome et al. 2013
    ALE      l_r / r sum_c v_c,  l_r = 1 + 1/2 + ... 1/r  Akata, Perronnin, Harchaoui & Schmid 2013
    LatEm    sum_c v_c with s_c = max_k x W_k a_c         Xian et al. 2016

r is the number of classes that violate the margin. The published ALE draws violating classes until it meets one and
estimates r from the number of draws; here all classes are looked at, so r is exact and the sum is the expectation.

Batch fields: features [b, d], label [b], weight [b]; constants: semantics [c, a], seen [s], margin.
Protocols: ZSL and generalised ZSL.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from demjax import losses
from demjax.checks import in_range, whole_number
from demjax.data import ClassSet, Spec
from demjax.data.batches import examples
from demjax.protocols import GZSL, ZSL
from demjax.search import Score
from demjax.tasks.task import Task, Variables
from demjax.tasks.zsl.inputs import class_scaler, feature_scaler

Rank = Callable[[jax.Array], jax.Array]


def hardest(violations: jax.Array) -> jax.Array:
    """SJE: the largest violation of each row [b, c]."""
    return violations.max(axis=1)


def every(violations: jax.Array) -> jax.Array:
    """DeViSE: the sum of the violations."""
    return violations.sum(axis=1)


def by_rank(violations: jax.Array) -> jax.Array:
    """ALE: the sum of the violations times l_r / r, in which the rank r is a constant."""
    rank = jnp.maximum(jnp.sum(violations > 0, axis=1), 1)
    harmonic = jnp.cumsum(1 / jnp.arange(1, violations.shape[1] + 1, dtype=jnp.float32))
    weight = harmonic[rank - 1] / rank.astype(jnp.float32)
    return jax.lax.stop_gradient(weight) * violations.sum(axis=1)


def _bilinear(
    name: str,
    rank: Rank,
    spec: Spec,
    *,
    margin: int | float,
    features_scale: str,
    semantics_scale: str,
    components: int = 1,
) -> Task:
    in_range("task.margin", margin, 0, open_low=True)
    scaler, vectors = feature_scaler(features_scale), class_scaler(semantics_scale, spec.parts)
    shape = (components, spec.n_features, spec.n_semantics)

    def init(key):
        return Variables({"weights": jax.random.normal(key, shape, jnp.float32) / float(np.sqrt(shape[1]))})

    def project(variables, features):
        """x W_k [b, m, a] for each of the m maps."""
        return jnp.einsum("bd,mda->bma", scaler.scale(variables.state, features), variables.params["weights"])

    def embed_images(variables, images):
        projected = project(variables, images["features"])
        return projected if components > 1 else projected[:, 0]

    def loss(variables, batch, key, axis):
        del key, axis
        scores = (project(variables, batch["features"]) @ batch["semantics"][batch["seen"]].T).max(axis=1)
        truth = jnp.searchsorted(batch["seen"], batch["label"])
        total = jnp.sum(batch["weight"] * rank(losses.violations(scores, truth, batch["margin"])))
        return total, jnp.sum(batch["weight"]), {}, variables.state

    def constants(dataset: ClassSet):
        table = dataset.class_vectors(semantics_scale)
        return {"semantics": table, "seen": dataset.seen.astype(np.int32), "margin": np.float32(margin)}

    return Task(
        name=name,
        score=Score("dot", vectors=components),
        summary="bilinear",
        protocols=(ZSL, GZSL),
        init=init,
        loss=loss,
        batchings={"examples": examples},
        constants=constants,
        sweepable=("margin",),
        statistics=scaler.statistics,
        embed={"image": embed_images, "class": lambda variables, classes: jnp.asarray(vectors(classes))},
    )


def sje(spec: Spec, *, margin: int | float = 1.0, features_scale: str = "unit", semantics_scale: str = "unit") -> Task:
    """Structured joint embedding: the hardest violation.

    Args:
      spec: gives d and a.
      margin: > 0.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    scales: dict[str, Any] = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    return _bilinear("sje", hardest, spec, margin=margin, **scales)


def devise(
    spec: Spec, *, margin: int | float = 1.0, features_scale: str = "unit", semantics_scale: str = "unit"
) -> Task:
    """DeViSE: every violation counts. Arguments and errors as for `sje`."""
    scales: dict[str, Any] = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    return _bilinear("devise", every, spec, margin=margin, **scales)


def ale(spec: Spec, *, margin: int | float = 1.0, features_scale: str = "unit", semantics_scale: str = "unit") -> Task:
    """Attribute label embedding: violations weighted by the rank of the true class. As `sje` otherwise."""
    scales: dict[str, Any] = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    return _bilinear("ale", by_rank, spec, margin=margin, **scales)


def latem(
    spec: Spec,
    *,
    components: int = 4,
    margin: int | float = 1.0,
    features_scale: str = "unit",
    semantics_scale: str = "unit",
) -> Task:
    """Latent embeddings: the best of several bilinear maps for each image and class.

    Args:
      spec: gives d and a.
      components: number of maps, >= 1; the authors choose among 2, 4, 6, 8 and 10 on validation classes.
      margin, features_scale, semantics_scale: as for `sje`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    whole_number("task.components", components, 1)
    scales: dict[str, Any] = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    return _bilinear("latem", every, spec, margin=margin, components=components, **scales)
