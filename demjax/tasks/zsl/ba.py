"""Classifiers predicted from descriptions (Ba, Swersky, Fidler & Salakhutdinov, ICCV 2015), on features.

    s_c(x) = g(x) . w(a_c)        g and w networks with one hidden layer

Every seen class is a problem apart: with y_ic = 1 for the class of image i and -1 for the others,

    cross_entropy  1/N sum_i sum_c log(1 + exp(-y_ic s_c(x_i)))
    hinge          1/N sum_i sum_c max(0, margin - y_ic s_c(x_i))

Batch fields: features [b, d], label [b], weight [b]; constants: semantics [c, a], seen [s], margin.
Protocols: ZSL and generalised ZSL.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from demjax.checks import choose, in_range, whole_number
from demjax.data import ClassSet, Spec
from demjax.data.batches import examples
from demjax.models import SemanticEncoder
from demjax.protocols import GZSL, ZSL
from demjax.search import Score
from demjax.tasks.task import Task, Variables
from demjax.tasks.zsl.inputs import class_scaler, feature_scaler

FITS = {
    "hinge": lambda signed, margin: jnp.maximum(0.0, margin - signed),
    "cross_entropy": lambda signed, margin: jax.nn.softplus(-signed),
}


def ba(
    spec: Spec,
    *,
    hidden: int = 300,
    width: int = 50,
    fit: str = "cross_entropy",
    margin: int | float = 1.0,
    features_scale: str = "unit",
    semantics_scale: str = "sqrt",
) -> Task:
    """Classifiers predicted from descriptions: the weights of class c are a network of a_c.

    Args:
      spec: gives d and a.
      hidden: units of the hidden layer of both networks, >= 1.
      width: of the space where they meet, >= 1.
      fit: `hinge` or `cross_entropy`.
      margin: of the hinge, > 0.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    whole_number("task.hidden", hidden, 1)
    whole_number("task.width", width, 1)
    in_range("task.margin", margin, 0, open_low=True)
    choose("task.fit", fit, FITS)
    scaler, vectors = feature_scaler(features_scale), class_scaler(semantics_scale, spec.parts)
    embed_images, embed_classes, init, loss = _networks(spec, hidden, width, FITS[fit], scaler)

    def constants(dataset: ClassSet):
        table = dataset.class_vectors(semantics_scale)
        return {"semantics": table, "seen": dataset.seen.astype(np.int32), "margin": np.float32(margin)}

    return Task(
        name="ba",
        score=Score("dot"),
        summary="both",
        protocols=(ZSL, GZSL),
        init=init,
        loss=loss,
        batchings={"examples": examples},
        constants=constants,
        sweepable=("margin",) if fit == "hinge" else (),
        statistics=scaler.statistics,
        embed={
            "image": lambda variables, images: embed_images(variables, images["features"]),
            "class": lambda variables, classes: embed_classes(variables, jnp.asarray(vectors(classes))),
        },
    )


def _networks(spec: Spec, hidden: int, width: int, wrong, scaler):
    """(g of features, w of class vectors, init, loss), the first two as functions of the variables."""
    n_in = {"image": spec.n_features, "class": spec.n_semantics}

    def network(side, key):
        return SemanticEncoder(n_in[side], hidden, width, init="he", output="linear", rngs=nnx.Rngs(key))

    graph = {s: nnx.graphdef(nnx.eval_shape(lambda s=s: network(s, jax.random.key(0)))) for s in n_in}

    def init(key):
        keys = zip(n_in, jax.random.split(key), strict=True)
        return Variables({side: nnx.state(network(side, k), nnx.Param) for side, k in keys})

    def g(variables, features):
        return nnx.merge(graph["image"], variables.params["image"])(scaler.scale(variables.state, features))

    def w(variables, vectors):
        return nnx.merge(graph["class"], variables.params["class"])(vectors)

    def loss(variables, batch, key, axis):
        del key, axis
        scores = g(variables, batch["features"]) @ w(variables, batch["semantics"][batch["seen"]]).T
        is_true = batch["seen"][None] == batch["label"][:, None]
        each = wrong(jnp.where(is_true, scores, -scores), batch["margin"]).sum(axis=1)
        return jnp.sum(batch["weight"] * each), jnp.sum(batch["weight"]), {}, variables.state

    return g, w, init, loss
