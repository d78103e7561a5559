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

from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np

from demjax import losses
from demjax.checks import UserError, choose, in_range, several_numbers, whole_number
from demjax.data import Spec
from demjax.data.batches import class_sums, examples
from demjax.models import INITIALISERS, OUTPUTS, FusedEncoder, SemanticEncoder
from demjax.protocols import GZSL, ZSL
from demjax.search import Score
from demjax.tasks.functional import network
from demjax.tasks.task import Task, Variables
from demjax.tasks.zsl.inputs import class_scaler
from demjax.tasks.zsl.trained import seen

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
    to_visual, hinge, released = direction == TO_VISUAL, loss == "hinge", loss_form == "released"
    _choose(init=init, output=output, fusion=fusion, loss=loss, loss_form=loss_form, direction=direction, score=score)
    weights, layer_l2 = _numbers(spec, to_visual, hidden, l2, margin, source_weights, source_l2)
    begin, image, classes = _sides(spec, to_visual, hidden, weights, fusion, dict(init=init, output=output))
    vectors = class_scaler(semantics_scale, spec.parts)
    numbers = {"l2": np.float32(l2), "margin": np.float32(margin)}
    return Task(
        name="dem",
        score=Score(score),
        summary=direction,
        protocols=(ZSL, GZSL),
        init=lambda key: Variables(begin(key)),
        loss=_loss(image, classes, hinge, released, layer_l2),
        fields=("features", "label", "weight", "scatter"),
        batchings=({"class_sums": class_sums} if to_visual and not hinge else {}) | {"examples": examples},
        constants=lambda data: {"semantics": data.class_vectors(semantics_scale), **seen(data), **numbers},
        sweepable=("l2", "margin") if hinge else ("l2",),
        embed={
            "image": lambda variables, images: image(variables.params, images["features"]),
            "class": lambda variables, items: classes(variables.params, jnp.asarray(vectors(items))),
        },
    )


def _sides(spec: Spec, to_visual: bool, hidden: int, weights: tuple[float, ...], fusion: str, layers: dict[str, str]):
    """(init, image, class): the parameters of f by a key, and two functions of them of which one is f, the other x."""
    widths = list(spec.parts.values())

    def encoder(rngs):
        if not to_visual:
            return SemanticEncoder(spec.n_features, hidden, spec.n_semantics, rngs=rngs, **layers)
        if len(widths) > 1:
            return FusedEncoder(widths, hidden, spec.n_features, fusion=fusion, weights=weights, rngs=rngs, **layers)
        return SemanticEncoder(spec.n_semantics, hidden, spec.n_features, rngs=rngs, **layers)

    init, f = network(encoder)

    def as_it_is(params, x):
        return x

    return (init, as_it_is, f) if to_visual else (init, f, as_it_is)


def _loss(image, classes, hinge: bool, released: bool, layer_l2: tuple[float, ...]):
    """The fit, least squares or hinge, and the penalty of the weights times the count."""

    def least_squares(params, batch):
        """sum_i ||x_i - f(y_i)||^2 of the images; a row of many images has their mean and scatter."""
        x, y = image(params, batch["features"]), classes(params, batch["semantics"][batch["label"]])
        squared = losses.squared_distance(x, y)
        return jnp.sum(batch["weight"] * squared + batch["scatter"]) / (x.shape[1] if released else 1)

    def violated(params, batch):
        """sum_i sum_{j != t_i} max(0, margin - s_it + s_ij), j the seen classes."""
        scores = image(params, batch["features"]) @ classes(params, batch["semantics"][batch["seen"]]).T
        truth = jnp.searchsorted(batch["seen"], batch["label"])
        return jnp.sum(batch["weight"] * losses.violations(scores, truth, batch["margin"]).sum(axis=1))

    def loss(variables, batch, key, axis):
        del key, axis  # nothing random, no in-batch negatives
        params, l2 = variables.params, batch["l2"]
        fit, count = (violated if hinge else least_squares)(params, batch), jnp.sum(batch["weight"])
        penalty = l2 * losses.squared_norm(params, biases=released)
        if layer_l2:
            layers = [losses.squared_norm(params["branches"][i], biases=released) for i in range(len(layer_l2))]
            penalty += sum((of_layer - l2) * layer for of_layer, layer in zip(layer_l2, layers, strict=True))
        penalty *= 0.5 if released else 1.0
        return fit + count * penalty, count, {"fit": fit}, variables.state

    return loss


def _choose(**names: str) -> None:
    """Raises a UserError for a name that is not known; score and loss must fit together."""
    options: dict[str, Iterable[str]] = dict(init=INITIALISERS, output=OUTPUTS, fusion=FORMS, direction=DIRECTIONS)
    options |= dict(loss=SCORES, loss_form=FORMS, score=SCORES.get(names["loss"], ()))
    for setting, known in options.items():
        choose(f"task.{setting}", names[setting], dict.fromkeys(known))


def _numbers(spec: Spec, to_visual: bool, hidden, l2, margin, source_weights, source_l2):
    """Weight of each source, and its lambda, () where all have `l2`.

    Raises:
      UserError: a number out of range, or for a fusion that is none.
    """
    n_sources = len(spec.parts) or 1
    fused = n_sources > 1 and to_visual
    whole_number("task.hidden", hidden, 0)
    in_range("task.l2", l2, 0)
    in_range("task.margin", margin, 0, open_low=True)
    if fused and not hidden:
        raise UserError("task.hidden is 0: fusing several sources of semantics needs a hidden layer")
    if source_l2 != () and not fused:
        raise UserError("task.source_l2 is for the fusion of several sources: expected () here")
    weights = (1.0,) * n_sources if source_weights == () else source_weights
    several_numbers("task.source_weights", weights, n_sources)
    if source_l2 != ():
        several_numbers("task.source_l2", source_l2, n_sources, low=0)
    return tuple(weights), tuple(source_l2)
