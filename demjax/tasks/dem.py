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

Batch fields: features [b, d], label [b], weight [b], scatter [b]; tables: semantics [c, a], seen [s], l2, margin.
Protocols: ZSL (unseen images among unseen classes) and generalised ZSL (all images among all classes).
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from demjax import losses
from demjax.checks import UserError, choose, in_range
from demjax.data.class_set import ClassSet as Dataset
from demjax.models import INITIALISERS, OUTPUTS, FusedEncoder, SemanticEncoder
from demjax.tasks.task import Task

FORMS = ("paper", "released")
DIRECTIONS = ("semantic->visual", "visual->semantic")
SCORES = {"least_squares": ("euclidean", "cosine"), "hinge": ("euclidean", "cosine", "dot")}


def dem(
    dataset: Dataset,
    *,
    hidden: int = 1200,
    init: str = "he",
    output: str = "relu",
    semantics_scale: str = "sqrt",
    fusion: str = "paper",
    source_weights: tuple[float, ...] = (),
    source_l2: tuple[float, ...] = (),
    direction: str = "semantic->visual",
    loss: str = "least_squares",
    loss_form: str = "paper",
    l2: int | float = 0.1,
    margin: int | float = 1.0,
    score: str = "cosine",
) -> Task:
    """Builds the task for the widths of `dataset`.

    Args:
      dataset: gives a, d and the class table; with several sources of semantics (`att+sent`) f fuses them.
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
    in_range("task.hidden", hidden, 0)
    in_range("task.l2", l2, 0)
    in_range("task.margin", margin, 0, open_low=True)
    for what, name, options in (
        ("init", init, INITIALISERS), ("output", output, OUTPUTS), ("fusion", fusion, FORMS), ("loss", loss, SCORES),
        ("loss_form", loss_form, FORMS), ("direction", direction, DIRECTIONS),
    ):  # fmt: skip
        choose(f"task.{what}", name, dict.fromkeys(options))
    choose("task.score", score, dict.fromkeys(SCORES[loss]))
    sources, semantics = dataset.class_vectors_by_source(semantics_scale), dataset.class_vectors(semantics_scale)
    n_features = dataset.features.shape[1]
    to_visual, released = direction == DIRECTIONS[0], loss_form == "released"
    fused = to_visual and len(sources) > 1
    if fused and not hidden:
        raise UserError("task.hidden is 0: fusing several sources of semantics needs a hidden layer")
    weights = tuple(source_weights) or (1.0,) * len(sources)
    own_l2 = tuple(source_l2) or (l2,) * len(sources)
    for what, given in (("source_weights", weights), ("source_l2", own_l2)):
        if len(given) != len(sources):
            raise UserError(f"task.{what} has {len(given)} numbers: expected {len(sources)}, one for each source")
    for value in own_l2:
        in_range("task.source_l2", value, 0)
    if source_l2 and not fused:
        raise UserError("task.source_l2 is for the fusion of several sources: expected () here")
    widths = [table.shape[1] for table in sources.values()]
    n_in, n_out = (semantics.shape[1], n_features) if to_visual else (n_features, semantics.shape[1])

    def encoder(key):
        rngs = nnx.Rngs(key)
        if fused:
            return FusedEncoder(
                widths, hidden, n_out, fusion=fusion, weights=weights, init=init, output=output, rngs=rngs
            )
        return SemanticEncoder(n_in, hidden, n_out, init=init, output=output, rngs=rngs)

    graph = nnx.graphdef(nnx.eval_shape(lambda: encoder(jax.random.key(0))))

    def embed(params, vectors):
        return nnx.merge(graph, params)(vectors)

    def least_squares(params, batch):
        """sum_i ||target_i - f(source_i)||^2 of the images; a row of many images has their mean and scatter."""
        described = batch["semantics"][batch["label"]]
        source, target = (described, batch["features"]) if to_visual else (batch["features"], described)
        squared = losses.squared_distance(target, embed(params, source))
        return jnp.sum(batch["weight"] * squared + batch["scatter"]) / (n_out if released else 1)

    def hinge(params, batch):
        classes = batch["semantics"][batch["seen"]]
        if to_visual:
            scores = batch["features"] @ embed(params, classes).T
        else:
            scores = embed(params, batch["features"]) @ classes.T
        truth = jnp.searchsorted(batch["seen"], batch["label"])
        return jnp.sum(batch["weight"] * losses.violations(scores, truth, batch["margin"]).sum(axis=1))

    def total(params, batch, key, axis):
        del key, axis  # nothing random, no in-batch negatives
        fit = (least_squares if loss == "least_squares" else hinge)(params, batch)
        count = jnp.sum(batch["weight"])
        norm = losses.squared_norm(params, biases=released)
        penalty = batch["l2"] * norm
        if source_l2:
            layers = [losses.squared_norm(params["branches"][i], biases=released) for i in range(len(sources))]
            penalty += sum((own - batch["l2"]) * layer for own, layer in zip(own_l2, layers, strict=True))
        penalty *= 0.5 if released else 1.0
        return fit + count * penalty, count, {"fit": fit}

    def gallery(params, dataset, ids):
        vectors = jnp.asarray(semantics[ids])
        return embed(params, vectors) if to_visual else vectors

    return Task(
        name="dem",
        score=score,
        direction=direction,
        fields=("features", "label", "weight", "scatter"),
        tables={
            "semantics": semantics,
            "seen": dataset.seen.astype(np.int32),
            "l2": np.float32(l2),
            "margin": np.float32(margin),
        },
        numbers=("l2", "margin") if loss == "hinge" else ("l2",),
        init=lambda key: nnx.state(encoder(key), nnx.Param),
        loss=total,
        queries=lambda params, features: features if to_visual else embed(params, features),
        gallery=gallery,
        rows=("examples", "class_sums") if to_visual and loss == "least_squares" else ("examples",),
    )
