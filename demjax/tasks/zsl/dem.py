"""DEM: a deep embedding model for zero-shot learning (Zhang, Xiang & Gong, CVPR 2017).

Class semantics y_c (attributes, word vectors, sentences, or several of them) are carried into the *visual* space by a
two-layer network f, and an image x is given the class whose prototype f(y_c) is nearest. Searching there, not in the
semantic space, keeps hubs small: regression shrinks what it projects, and shrunken queries all crowd around the same
items, while shrunken prototypes do little harm.

    f(y) = ReLU(W2 ReLU(W1 y + b1) + b2)           several sources: `FusedEncoder`  models/mlp.py
    class(x) = argmin_c Dist(x, f(y_c))            Dist Euclidean or cosine         search/

Least squares, in two forms that differ in constants (lambda_paper = lambda_released * d / 2):

    paper     1/N sum_i ||x_i - f(y_i)||^2          +  lambda (||W1||^2 + ||W2||^2)
    released  1/(N d) sum_i ||x_i - f(y_i)||^2      +  lambda/2 (||W1||^2 + ||W2||^2 + ||b1||^2 + ||b2||^2)

For the ablations of the paper: the hinge loss over the seen classes j (of DeViSE's kind; its margin is not published),

    1/N sum_i sum_{j != t_i} max(0, margin - x_i.f(y_{t_i}) + x_i.f(y_j))  +  lambda (||W1||^2 + ||W2||^2)

and the other direction, visual to semantic: there f carries the image, and the roles of x and y are swapped.

With least squares from semantic to visual all images of a class share y, so a row may be a whole class: its mean, its
count, its scatter (`class_sums`, data/batches.py); loss and gradient are the same.

Batch fields: features [b, d], label [b], weight [b], scatter [b]; constants: semantics [c, a], seen [s], l2, margin.
Protocols: ZSL (unseen images among unseen classes) and generalised ZSL (all images among all classes).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from demjax import losses
from demjax.checks import UserError, choose, in_range, several_numbers, whole_number
from demjax.data import ClassSet, Spec
from demjax.data.batches import class_sums, examples
from demjax.models import INITIALISERS, OUTPUTS, FusedEncoder, SemanticEncoder
from demjax.protocols import GZSL, ZSL
from demjax.search import Score
from demjax.tasks.task import Task, Variables
from demjax.tasks.zsl.inputs import SEMANTICS_SCALES, class_scaler

FORMS = ("paper", "released")
TO_VISUAL, TO_SEMANTIC = DIRECTIONS = ("semantic->visual", "visual->semantic")
SCORES = {"least_squares": ("euclidean", "cosine"), "hinge": ("euclidean", "cosine", "dot")}


def dem(
    spec: Spec,
    *,
    hidden: int = 1200,
    init: str = "he",
    output: str = "relu",
    semantics_scale: str = "sqrt",
    fusion: str = "paper",
    source_weights: tuple[float, ...] = (),
    source_l2: tuple[float, ...] = (),
    direction: str = TO_VISUAL,
    loss: str = "least_squares",
    loss_form: str = "paper",
    l2: int | float = 0.1,
    margin: int | float = 1.0,
    score: str = "cosine",
) -> Task:
    """Builds the task for the widths of a ClassSet.

    Args:
      spec: gives a and d; with several sources of semantics (`att+sent`) f fuses them.
      hidden: units of the hidden layer; 0: none, as the released script for word vectors.
      init: `he`, or `released` (truncated normal 0.1, biases 0.1).
      output: `relu`, or `linear` for a target space with negative values.
      semantics_scale: `none`, `unit` or `sqrt` (every class vector of a source with a columns at norm sqrt(a)).
      fusion: `paper` or `released`, see `FusedEncoder`; of several sources only.
      source_weights: of the sources in the fusion, in their order; (): all 1. Released: 3 for attributes, 1 for words.
      source_l2: lambda of the layer of each source in the fusion, then `l2` is that of the visual layer; (): all `l2`.
      direction: `semantic->visual`, or `visual->semantic` for the ablation.
      loss: `least_squares` or `hinge`.
      loss_form: constants of least squares, `paper` or `released`, above.
      l2: lambda of that form, >= 0.
      margin: of the hinge, > 0.
      score: `euclidean` or `cosine`; with the hinge also `dot`, what it trains.

    Raises:
      UserError: a setting out of range or unknown.
    """
    given = dict(locals())
    weights, layer_l2 = _check(spec, given)
    begin, f = _network(spec, given, weights)
    return Task(
        name="dem",
        score=Score(score),
        summary=direction,
        protocols=(ZSL, GZSL),
        init=begin,
        loss=_loss(spec, f, given, layer_l2),
        fields=("features", "label", "weight", "scatter"),
        batchings=_batchings(given),
        constants=lambda dataset: _constants(dataset, given),
        sweepable=("l2", "margin") if loss == "hinge" else ("l2",),
        embed=_sides(spec, f, given),
    )


def _network(spec: Spec, given: Mapping[str, Any], weights: tuple[float, ...]):
    """(init, f): (key) -> Variables, and (params, vectors) -> vectors on the other side."""
    to_visual, widths = given["direction"] == TO_VISUAL, list(spec.parts.values())
    n_in, n_out = _ends(spec, given)
    layers = dict(init=given["init"], output=given["output"])

    def encoder(key):
        rngs, hidden = nnx.Rngs(key), given["hidden"]
        if to_visual and len(widths) > 1:
            return FusedEncoder(widths, hidden, n_out, fusion=given["fusion"], weights=weights, rngs=rngs, **layers)
        return SemanticEncoder(n_in, hidden, n_out, rngs=rngs, **layers)

    graph = nnx.graphdef(nnx.eval_shape(lambda: encoder(jax.random.key(0))))
    return (
        lambda key: Variables(nnx.state(encoder(key), nnx.Param)),
        lambda params, vectors: nnx.merge(graph, params)(vectors),
    )


def _ends(spec: Spec, given: Mapping[str, Any]) -> tuple[int, int]:
    """Widths of what f takes and of what it gives."""
    a, d = spec.n_semantics, spec.n_features
    return (a, d) if given["direction"] == TO_VISUAL else (d, a)


def _loss(spec: Spec, f, given: Mapping[str, Any], layer_l2: tuple[float, ...]):
    """The fit, least squares or hinge, and the penalty of the weights times the count."""
    released = given["loss_form"] == "released"
    fit_of = _least_squares(spec, f, given) if given["loss"] == "least_squares" else _hinge(f, given)

    def loss(variables, batch, key, axis):
        del key, axis  # nothing random, no in-batch negatives
        params = variables.params
        fit = fit_of(params, batch)
        count = jnp.sum(batch["weight"])
        penalty = batch["l2"] * losses.squared_norm(params, biases=released)
        if given["source_l2"]:
            layers = [losses.squared_norm(params["branches"][i], biases=released) for i in range(len(layer_l2))]
            penalty += sum((of_layer - batch["l2"]) * layer for of_layer, layer in zip(layer_l2, layers, strict=True))
        penalty *= 0.5 if released else 1.0
        return fit + count * penalty, count, {"fit": fit}, variables.state

    return loss


def _least_squares(spec: Spec, f, given: Mapping[str, Any]):
    to_visual, released = given["direction"] == TO_VISUAL, given["loss_form"] == "released"
    _, n_out = _ends(spec, given)

    def fit(params, batch):
        """sum_i ||target_i - f(source_i)||^2 of the images; a row of many images has their mean and scatter."""
        described = batch["semantics"][batch["label"]]
        source, target = (described, batch["features"]) if to_visual else (batch["features"], described)
        squared = losses.squared_distance(target, f(params, source))
        return jnp.sum(batch["weight"] * squared + batch["scatter"]) / (n_out if released else 1)

    return fit


def _hinge(f, given: Mapping[str, Any]):
    to_visual = given["direction"] == TO_VISUAL

    def fit(params, batch):
        """sum_i sum_{j != t_i} max(0, margin - s_it + s_ij), j the seen classes."""
        classes = batch["semantics"][batch["seen"]]
        if to_visual:
            scores = batch["features"] @ f(params, classes).T
        else:
            scores = f(params, batch["features"]) @ classes.T
        truth = jnp.searchsorted(batch["seen"], batch["label"])
        return jnp.sum(batch["weight"] * losses.violations(scores, truth, batch["margin"]).sum(axis=1))

    return fit


def _batchings(given: Mapping[str, Any]):
    """Whole classes where the loss collapses over them, and images."""
    collapses = given["direction"] == TO_VISUAL and given["loss"] == "least_squares"
    return ({"class_sums": class_sums} if collapses else {}) | {"examples": examples}


def _constants(dataset: ClassSet, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "semantics": dataset.class_vectors(given["semantics_scale"]),
        "seen": dataset.seen.astype(np.int32),
        "l2": np.float32(given["l2"]),
        "margin": np.float32(given["margin"]),
    }


def _sides(spec: Spec, f, given: Mapping[str, Any]):
    """Classes go through f and images stay, or the other way round."""
    vectors, to_visual = class_scaler(given["semantics_scale"], spec.parts), given["direction"] == TO_VISUAL

    def embed_classes(variables, classes):
        table = jnp.asarray(vectors(classes))
        return f(variables.params, table) if to_visual else table

    def embed_images(variables, images):
        return images["features"] if to_visual else f(variables.params, images["features"])

    return {"image": embed_images, "class": embed_classes}


def _check(spec: Spec, given: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Checks the settings of `dem`; returns weight and lambda of each source.

    Raises:
      UserError: a setting out of range or unknown.
    """
    n_sources = len(spec.parts) or 1
    whole_number("task.hidden", given["hidden"], 0)
    in_range("task.l2", given["l2"], 0)
    in_range("task.margin", given["margin"], 0, open_low=True)
    for name, options in (
        ("init", INITIALISERS), ("output", OUTPUTS), ("fusion", FORMS), ("loss", SCORES), ("loss_form", FORMS),
        ("direction", DIRECTIONS), ("semantics_scale", SEMANTICS_SCALES),
    ):  # fmt: skip
        choose(f"task.{name}", given[name], dict.fromkeys(options))
    choose("task.score", given["score"], dict.fromkeys(SCORES[given["loss"]]))
    fused = n_sources > 1 and given["direction"] == TO_VISUAL
    if fused and not given["hidden"]:
        raise UserError("task.hidden is 0: fusing several sources of semantics needs a hidden layer")
    if given["source_l2"] != () and not fused:
        raise UserError("task.source_l2 is for the fusion of several sources: expected () here")
    weights = (1.0,) * n_sources if given["source_weights"] == () else given["source_weights"]
    layer_l2 = (given["l2"],) * n_sources if given["source_l2"] == () else given["source_l2"]
    several_numbers("task.source_weights", weights, n_sources)
    several_numbers("task.source_l2", layer_l2, n_sources, low=0)
    return tuple(weights), tuple(layer_l2)
