"""CMT, cross-modal transfer (Socher, Ganjoo, Manning & Ng, NeurIPS 2013): images into the semantic space.

    f(x) = W2 tanh(W1 x)        loss  1/N sum_i ||a_{y_i} - f(x_i)||^2        answer = argmin_c ||f(x) - a_c||

Batch fields: features [b, d], label [b], weight [b]; constants: semantics [c, a]. Protocols: ZSL and generalised ZSL.
"""

import jax
import jax.numpy as jnp

from demjax import losses
from demjax.checks import whole_number
from demjax.data import Spec
from demjax.data.batches import examples
from demjax.protocols import GZSL, ZSL
from demjax.search import Score
from demjax.tasks.task import Task, Variables
from demjax.tasks.zsl.inputs import class_scaler, feature_scaler


def cmt(spec: Spec, *, hidden: int = 200, features_scale: str = "unit", semantics_scale: str = "unit") -> Task:
    """Cross-modal transfer: images into the semantic space by one hidden layer of tanh.

    Args:
      spec: gives d and a.
      hidden: units of the layer, >= 1.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    whole_number("task.hidden", hidden, 1)
    scaler, vectors = feature_scaler(features_scale), class_scaler(semantics_scale, spec.parts)
    widths = spec.n_features, hidden, spec.n_semantics

    def init(key):
        shapes = zip(jax.random.split(key), widths[:2], widths[1:], strict=True)
        normal = [jax.random.normal(k, (a, b), jnp.float32) / a**0.5 for k, a, b in shapes]
        return Variables({f"layer{i}": weights for i, weights in enumerate(normal)})

    def f(variables, features):
        params = variables.params
        return jnp.tanh(scaler.scale(variables.state, features) @ params["layer0"]) @ params["layer1"]

    def loss(variables, batch, key, axis):
        del key, axis
        target = batch["semantics"][batch["label"]]
        total = jnp.sum(batch["weight"] * losses.squared_distance(target, f(variables, batch["features"])))
        return total, jnp.sum(batch["weight"]), {}, variables.state

    return Task(
        name="cmt",
        score=Score("euclidean"),
        summary="visual->semantic",
        protocols=(ZSL, GZSL),
        init=init,
        loss=loss,
        batchings={"examples": examples},
        constants=lambda dataset: {"semantics": dataset.class_vectors(semantics_scale)},
        statistics=scaler.statistics,
        embed={
            "image": lambda variables, images: f(variables, images["features"]),
            "class": lambda variables, classes: jnp.asarray(vectors(classes)),
        },
    )
