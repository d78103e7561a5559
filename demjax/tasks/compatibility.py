"""Bilinear compatibility, s_c(x) = x W a_c, trained to rank the true class first: SJE, DeViSE, ALE, LatEm.

With the violations v_c = max(0, margin + s_c - s_t) of an image of class t, over the seen classes c != t,

    SJE      max_c v_c                                    Akata, Reed, Walter, Lee & Schiele 2015
    DeViSE   sum_c v_c                                    Frome et al. 2013
    ALE      l_r / r sum_c v_c,  l_r = 1 + 1/2 + ... 1/r  Akata, Perronnin, Harchaoui & Schmid 2013
    LatEm    sum_c v_c with s_c = max_k x W_k a_c         Xian et al. 2016

r is the number of classes that violate the margin. The published ALE draws violating classes until it meets one and
estimates r from the number of draws; here all classes are looked at, so r is exact and the sum is the expectation.

Batch fields: features [b, d], label [b], weight [b]; tables: semantics [c, a], seen [s], margin.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from demjax import losses
from demjax.checks import in_range
from demjax.data.class_set import ClassSet as Dataset
from demjax.tasks.scaling import feature_scaler
from demjax.tasks.task import Task

Rank = Callable[[jax.Array], jax.Array]


def hardest(violations: jax.Array) -> jax.Array:
    """SJE: the largest violation of each row [b, c]."""
    return violations.max(axis=1)


def every(violations: jax.Array) -> jax.Array:
    """DeViSE: the sum of the violations."""
    return violations.sum(axis=1)


def by_rank(violations: jax.Array) -> jax.Array:
    """ALE: the sum of the violations times l_r / r, in which the rank r is a constant."""
    rank = jnp.sum(violations > 0, axis=1)
    harmonic = jnp.cumsum(1 / jnp.arange(1, violations.shape[1] + 1))
    weight = harmonic[jnp.maximum(rank, 1) - 1] / jnp.maximum(rank, 1)
    return jax.lax.stop_gradient(weight) * violations.sum(axis=1)


def _bilinear(
    name: str,
    rank: Rank,
    dataset: Dataset,
    *,
    margin: int | float,
    features_scale: str,
    semantics_scale: str,
    components: int = 1,
) -> Task:
    in_range("task.margin", margin, 0, open_low=True)
    in_range("task.components", components, 1)
    scaler, semantics = feature_scaler(dataset, features_scale), dataset.class_vectors(semantics_scale)
    shape = (components, dataset.features.shape[1], semantics.shape[1])

    def init(key):
        return {"weights": jax.random.normal(key, shape) / np.sqrt(shape[1])}

    def queries(params, features):
        projected = jnp.einsum("qd,mda->qma", scaler(features), params["weights"])
        return projected if components > 1 else projected[:, 0]

    def loss(params, batch, key, axis):
        del key, axis
        projected = jnp.einsum("bd,mda->bma", scaler(batch["features"]), params["weights"])
        scores = (projected @ batch["semantics"][batch["seen"]].T).max(axis=1)
        truth = jnp.searchsorted(batch["seen"], batch["label"])
        violated = losses.violations(scores, truth, batch["margin"])
        return jnp.sum(batch["weight"] * rank(violated)), jnp.sum(batch["weight"]), {}

    return Task(
        name=name,
        score="dot",
        direction="bilinear",
        tables={"semantics": semantics, "seen": dataset.seen.astype(np.int32), "margin": np.float32(margin)},
        numbers=("margin",),
        vectors=components,
        init=init,
        loss=loss,
        queries=queries,
        gallery=lambda params, dataset, ids: jnp.asarray(semantics[ids]),
    )


def sje(
    dataset: Dataset, *, margin: int | float = 1.0, features_scale: str = "unit", semantics_scale: str = "unit"
) -> Task:
    """Structured joint embedding: the hardest violation.

    Args:
      margin: > 0.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    scales: dict[str, Any] = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    return _bilinear("sje", hardest, dataset, margin=margin, **scales)


def devise(
    dataset: Dataset, *, margin: int | float = 1.0, features_scale: str = "unit", semantics_scale: str = "unit"
) -> Task:
    """DeViSE: every violation counts. Arguments and errors as for `sje`."""
    scales: dict[str, Any] = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    return _bilinear("devise", every, dataset, margin=margin, **scales)


def ale(
    dataset: Dataset, *, margin: int | float = 1.0, features_scale: str = "unit", semantics_scale: str = "unit"
) -> Task:
    """Attribute label embedding: violations weighted by the rank of the true class. As `sje` otherwise."""
    scales: dict[str, Any] = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    return _bilinear("ale", by_rank, dataset, margin=margin, **scales)


def latem(
    dataset: Dataset,
    *,
    components: int = 4,
    margin: int | float = 1.0,
    features_scale: str = "unit",
    semantics_scale: str = "unit",
) -> Task:
    """Latent embeddings: the best of several bilinear maps for each image and class.

    Args:
      components: number of maps, >= 1; the authors choose among 2, 4, 6, 8 and 10 on validation classes.
      margin, features_scale, semantics_scale: as for `sje`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    scales: dict[str, Any] = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    return _bilinear("latem", every, dataset, margin=margin, components=components, **scales)
