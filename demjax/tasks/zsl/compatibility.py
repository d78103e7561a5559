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

import jax
import jax.numpy as jnp
import numpy as np

from demjax import losses
from demjax.checks import in_range, whole_number
from demjax.data import Spec
from demjax.search import Score
from demjax.tasks.task import Task
from demjax.tasks.zsl.trained import trained, truth

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


def _bilinear(name: str, rank: Rank, spec: Spec, margin: int | float, *scales: str, components: int = 1) -> Task:
    in_range("task.margin", margin, 0, open_low=True)
    shape = (components, spec.n_features, spec.n_semantics)

    def project(variables, x):
        """x W_k [b, m, a] for each of the m maps."""
        return jnp.einsum("bd,mda->bma", x, variables.params["weights"])

    def each(variables, x, batch):
        scores = (project(variables, x) @ batch["semantics"][batch["seen"]].T).max(axis=1)
        return rank(losses.violations(scores, truth(batch), batch["margin"]))

    return trained(
        name,
        spec,
        *scales,
        score=Score("dot", vectors=components),
        summary="bilinear",
        init=lambda key: {"weights": jax.random.normal(key, shape, jnp.float32) / float(np.sqrt(shape[1]))},
        each=each,
        image=project if components > 1 else lambda variables, x: project(variables, x)[:, 0],
        numbers={"margin": margin},
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
    return _bilinear("sje", hardest, spec, margin, features_scale, semantics_scale)


def devise(
    spec: Spec, *, margin: int | float = 1.0, features_scale: str = "unit", semantics_scale: str = "unit"
) -> Task:
    """DeViSE: every violation counts. Arguments and errors as for `sje`."""
    return _bilinear("devise", every, spec, margin, features_scale, semantics_scale)


def ale(spec: Spec, *, margin: int | float = 1.0, features_scale: str = "unit", semantics_scale: str = "unit") -> Task:
    """Attribute label embedding: violations weighted by the rank of the true class. As `sje` otherwise."""
    return _bilinear("ale", by_rank, spec, margin, features_scale, semantics_scale)


def latem(
    spec: Spec,
    *,
    components: int = 4,
    margin: int | float = 1.0,
    features_scale: str = "unit",
    semantics_scale: str = "unit",
) -> Task:
    """Latent embeddings: the best of several bilinear maps for each image and class. As `sje` otherwise.

    Args:
      components: number of maps, >= 1; the authors choose among 2, 4, 6, 8 and 10 on validation classes.
    """
    whole_number("task.components", components, 1)
    return _bilinear("latem", every, spec, margin, features_scale, semantics_scale, components=components)
