"""DEM: a deep embedding model for zero-shot learning (Zhang, Xiang & Gong, CVPR 2017).

Class semantics y_c (attributes) are carried into the *visual* space by a two-layer network f, and an image
x is given the class whose prototype f(y_c) is nearest. Searching there, not in the semantic space, keeps
hubs small: regression shrinks what it projects, and shrunken queries all crowd around the same items, while
shrunken prototypes do little harm.

    f(y) = ReLU(W2 ReLU(W1 y + b1) + b2)                                            models/mlp.py
    class(x) = argmin_c Dist(x, f(y_c))            Dist Euclidean or cosine         search/

Least squares, in two forms that differ in constants (lambda_paper = lambda_released * d / 2):

    paper     1/N sum_i ||x_i - f(y_i)||^2          +  lambda (||W1||^2 + ||W2||^2)
    released  1/(N d) sum_i ||x_i - f(y_i)||^2      +  lambda/2 (||W1||^2 + ||W2||^2 + ||b1||^2 + ||b2||^2)

All images of a class share y, so a row may be a whole class: its mean, its count, its scatter
(`groups=True`, data/batches.py); loss and gradient are the same.

Batch fields: features [b, d], label [b], weight [b], scatter [b]; table: semantics [c, a].
Protocols: ZSL (unseen images among unseen classes) and generalised ZSL (all images among all classes).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from demjax import losses
from demjax.checks import choose, in_range
from demjax.data.dataset import Dataset, scale_semantics
from demjax.models import INITIALISERS, SemanticEncoder
from demjax.tasks.task import Task

FORMS = ("paper", "released")
SCORES = ("euclidean", "cosine")


def dem(
    dataset: Dataset,
    *,
    hidden: int = 1200,
    init: str = "he",
    semantics_scale: str = "sqrt",
    loss_form: str = "paper",
    l2: int | float = 0.1,
    score: str = "cosine",
) -> Task:
    """Builds the task for the widths of `dataset`.

    Args:
      dataset: gives a, d and the class table.
      hidden: units of the hidden layer, >= 1.
      init: `he`, or `released` (truncated normal 0.1, biases 0.1).
      semantics_scale: `none`, `unit` or `sqrt` (every class vector at norm sqrt(a)).
      loss_form: `paper` or `released`, above.
      l2: lambda of that form, >= 0.
      score: `euclidean` or `cosine`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("model.hidden", hidden, 1)
    in_range("task.l2", l2, 0)
    choose("model.init", init, INITIALISERS)
    choose("task.loss_form", loss_form, dict.fromkeys(FORMS))
    choose("task.score", score, dict.fromkeys(SCORES))
    semantics = scale_semantics(dataset.semantics, semantics_scale)
    n_features = dataset.features.shape[1]
    released = loss_form == "released"

    def encoder(key):
        return SemanticEncoder(semantics.shape[1], hidden, n_features, init=init, rngs=nnx.Rngs(key))

    graph = nnx.graphdef(nnx.eval_shape(lambda: encoder(jax.random.key(0))))

    def prototypes(params, vectors):
        return nnx.merge(graph, params)(vectors)

    def loss(params, batch, key, axis):
        del key, axis  # nothing random, no in-batch negatives
        predicted = prototypes(params, batch["semantics"][batch["label"]])
        squared = losses.squared_distance(batch["features"], predicted)
        fit = jnp.sum(batch["weight"] * squared + batch["scatter"]) / (n_features if released else 1)
        count = jnp.sum(batch["weight"])
        norm = losses.squared_norm(params, biases=released)
        penalty = l2 * norm * (0.5 if released else 1.0)
        return fit + count * penalty, count, {"fit": fit}

    return Task(
        name="dem",
        fields=("features", "label", "weight", "scatter"),
        tables={"semantics": semantics},
        score=score,
        direction="semantic->visual",
        init=lambda key: nnx.state(encoder(key), nnx.Param),
        loss=loss,
        queries=lambda params, features: features,
        gallery=lambda params, dataset, ids: prototypes(params, jnp.asarray(semantics[ids])),
        protocols=("zsl", "gzsl"),
        groups=True,
    )
