"""Other small networks between images and semantics: CMT, Ba et al., CVC.

    CMT   f(x) = W2 tanh(W1 x), least squares to a_y; nearest a_c                Socher, Ganjoo, Manning & Ng 2013
    Ba    s_c(x) = g(x) . w(a_c), two networks; hinge or cross-entropy           Ba, Swersky, Fidler & ... 2015
    CVC   s_c(x) = s cos(x, f(a_c)) + t, f as DEM's, s learned; cross-entropy    Li, Min & Fu 2019

The shift t of CVC is the same for all classes and drops out of the softmax; it is left out. Its episodes (batches of
some of the classes) are here batches against all seen classes.

Batch fields: features [b, d], label [b], weight [b]; tables: semantics [c, a], seen [s], margin.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from demjax import losses
from demjax.checks import choose, in_range
from demjax.data.class_set import ClassSet as Dataset
from demjax.models import SemanticEncoder
from demjax.tasks.scaling import feature_scaler
from demjax.tasks.task import Task

FITS = ("hinge", "cross_entropy")


def _module(build):
    """(init, apply) of an NNX module as pure functions of its parameters."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: build(jax.random.key(0))))
    return (lambda key: nnx.state(build(key), nnx.Param)), (lambda params, x: nnx.merge(graph, params)(x))


def _mean(batch, per_image):
    return jnp.sum(batch["weight"] * per_image), jnp.sum(batch["weight"]), {}


def cmt(dataset: Dataset, *, hidden: int = 200, features_scale: str = "unit", semantics_scale: str = "unit") -> Task:
    """Cross-modal transfer: images into the semantic space by one hidden layer of tanh.

    Args:
      hidden: its units, >= 1.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.hidden", hidden, 1)
    scaler, semantics = feature_scaler(dataset, features_scale), dataset.class_vectors(semantics_scale)
    widths = dataset.features.shape[1], hidden, semantics.shape[1]

    def init(key):
        keys = jax.random.split(key)
        shapes = zip(keys, widths[:2], widths[1:], strict=True)
        return {f"layer{i}": jax.random.normal(k, (a, b)) / np.sqrt(a) for i, (k, a, b) in enumerate(shapes)}

    def queries(params, features):
        return jnp.tanh(scaler(features) @ params["layer0"]) @ params["layer1"]

    def loss(params, batch, key, axis):
        del key, axis
        wanted = batch["semantics"][batch["label"]]
        return _mean(batch, losses.squared_distance(wanted, queries(params, batch["features"])))

    return Task(
        name="cmt",
        score="euclidean",
        direction="visual->semantic",
        tables={"semantics": semantics},
        init=init,
        loss=loss,
        queries=queries,
        gallery=lambda params, dataset, ids: jnp.asarray(semantics[ids]),
    )


def ba(
    dataset: Dataset,
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
      hidden: units of the hidden layer of both networks, >= 1.
      width: of the space where they meet, >= 1.
      fit: `hinge` or `cross_entropy`, of every seen class as a problem of its own.
      margin: of the hinge, > 0.
      features_scale, semantics_scale: as for `cmt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.hidden", hidden, 1)
    in_range("task.width", width, 1)
    in_range("task.margin", margin, 0, open_low=True)
    choose("task.fit", fit, dict.fromkeys(FITS))
    scaler, semantics = feature_scaler(dataset, features_scale), dataset.class_vectors(semantics_scale)

    def network(n_in):
        return _module(lambda key: SemanticEncoder(n_in, hidden, width, init="he", output="linear", rngs=nnx.Rngs(key)))

    (image_init, image), (class_init, described) = network(dataset.features.shape[1]), network(semantics.shape[1])

    def init(key):
        keys = jax.random.split(key)
        return {"image": image_init(keys[0]), "class": class_init(keys[1])}

    def loss(params, batch, key, axis):
        del key, axis
        weights = described(params["class"], batch["semantics"][batch["seen"]])
        scores = image(params["image"], scaler(batch["features"])) @ weights.T
        is_true = batch["seen"][None] == batch["label"][:, None]
        signed = jnp.where(is_true, scores, -scores)
        wrong = jnp.maximum(0.0, batch["margin"] - signed) if fit == "hinge" else jax.nn.softplus(-signed)
        return _mean(batch, wrong.sum(axis=1))

    return Task(
        name="ba",
        score="dot",
        direction="both",
        tables={"semantics": semantics, "seen": dataset.seen.astype(np.int32), "margin": np.float32(margin)},
        numbers=("margin",) if fit == "hinge" else (),
        init=init,
        loss=loss,
        queries=lambda params, features: image(params["image"], scaler(features)),
        gallery=lambda params, dataset, ids: described(params["class"], jnp.asarray(semantics[ids])),
    )


def cvc(dataset: Dataset, *, hidden: int = 1600, semantics_scale: str = "sqrt", scale: int | float = 10.0) -> Task:
    """DEM's network with a cosine softmax of learned scale: the loss changed, nothing else.

    Args:
      hidden: units, >= 1.
      semantics_scale: `none`, `unit` or `sqrt`.
      scale: of the cosine at the start, > 0.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.hidden", hidden, 1)
    in_range("task.scale", scale, 0, open_low=True)
    semantics, d = dataset.class_vectors(semantics_scale), dataset.features.shape[1]
    start, embed = _module(lambda key: SemanticEncoder(semantics.shape[1], hidden, d, init="small", rngs=nnx.Rngs(key)))

    def loss(params, batch, key, axis):
        del key, axis
        prototypes = embed(params["encoder"], batch["semantics"][batch["seen"]])
        cosine = losses.unit_rows(batch["features"]) @ losses.unit_rows(prototypes).T
        truth = jnp.searchsorted(batch["seen"], batch["label"])
        return _mean(batch, losses.softmax_cross_entropy(params["scale"] * cosine, truth))

    return Task(
        name="cvc",
        score="cosine",
        direction="semantic->visual",
        tables={"semantics": semantics, "seen": dataset.seen.astype(np.int32)},
        init=lambda key: {"encoder": start(key), "scale": jnp.float32(scale)},
        loss=loss,
        queries=lambda params, features: features,
        gallery=lambda params, dataset, ids: embed(params["encoder"], jnp.asarray(semantics[ids])),
    )
