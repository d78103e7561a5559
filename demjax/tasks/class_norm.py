"""Class-normalised DEM: DEM's idea with a scaled cosine softmax (Skorokhodov & Elhoseiny, ICLR 2021).

Semantics y_c still become prototypes P(y_c) in the visual space, but they are trained to be told apart, not to be near:

    s_c(x) = gamma^2 cos(x, P(y_c))         loss: cross-entropy of the true class over the *seen* classes
    answer = argmax_c cos(x, P(y_c))

Three things make the network (models/class_norm.py) work for classes it has not seen: class vectors of norm sqrt(a)
(`semantics_scale`), standardisation over the seen classes before the output layer, eq. (9) (`divide_by`), and an output
layer of variance 1 / (h d), eq. (10) (`output_init`). Each has a switch, so that the ladder of the paper is a table.

The published notebook keeps running averages of the statistics for the time after training. Here all seen classes
are in every forward pass anyway, so evaluation takes their statistics from the final parameters: the limit of those
averages, with nothing to settle and no state beside the parameters. Unseen classes never enter them.

Two more switches, both off by default and not of that paper: `semantics_dropout` hides a share of the class table in
every step, so that prototypes lean on many attributes (Srivastava et al. 2014), and `features_power` keeps a few large
features from deciding the cosine: x becomes sign(x) |x|^p (Perronnin, Sanchez & Mensink, ECCV 2010).

Batch fields: features [b, d], label [b], weight [b]; tables: semantics [c, a], seen [s], scale.
Protocols: ZSL and generalised ZSL.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from demjax import losses
from demjax.checks import UserError, choose, in_range
from demjax.data.class_set import ClassSet as Dataset
from demjax.models import DIVIDE_BY, OUTPUT_INIT, ClassNormEncoder
from demjax.tasks.scaling import dropout, signed_power
from demjax.tasks.task import Task


def class_norm(
    dataset: Dataset,
    *,
    hidden: int = 1024,
    semantics_scale: str = "sqrt",
    divide_by: str = "std",
    output_init: str = "class_norm",
    scale: int | float = 25.0,
    semantics_dropout: int | float = 0.0,
    features_power: int | float = 1.0,
    source_weights: tuple[float, ...] = (),
    members: int = 1,
) -> Task:
    """Builds the task for the widths of `dataset`.

    Args:
      dataset: gives a, d and the class table; several sources of semantics stand side by side.
      hidden: units of both hidden layers, >= 1.
      semantics_scale: `none`, `unit` or `sqrt` (norm sqrt(a)).
      divide_by: what standardisation divides by: `std`, `variance` (the notebook), or `none` for no standardisation.
      output_init: `class_norm`, eq. (10), or `default`.
      scale: gamma^2 of the logits, > 0.
      semantics_dropout: share of the class table hidden in a training step, the rest scaled up; in [0, 0.9].
      features_power: p of the features, in (0, 1]; 1 leaves them as they are.
      source_weights: factors on the sources of semantics, in their order; (): all 1.
      members: networks of an ensemble, >= 1: each is trained for itself, and an answer is by the mean of their cosines.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.hidden", hidden, 1)
    in_range("task.members", members, 1)
    in_range("task.scale", scale, 0, open_low=True)
    in_range("task.semantics_dropout", semantics_dropout, 0, 0.9)
    in_range("task.features_power", features_power, 0, 1, open_low=True)
    choose("task.divide_by", divide_by, dict.fromkeys(DIVIDE_BY))
    choose("task.output_init", output_init, dict.fromkeys(OUTPUT_INIT))
    semantics, seen = _weighted(dataset.class_vectors_by_source(semantics_scale), source_weights), dataset.seen
    widths = semantics.shape[1], hidden, dataset.features.shape[1]

    def encoder(key):
        return ClassNormEncoder(*widths, divide_by=divide_by, output_init=output_init, rngs=nnx.Rngs(key))

    graph = nnx.graphdef(nnx.eval_shape(lambda: encoder(jax.random.key(0))))

    def init(key):
        one = lambda key: nnx.state(encoder(key), nnx.Param)  # noqa: E731
        return one(key) if members == 1 else jax.vmap(one)(jax.random.split(key, members))

    def of_member(params, batch, key):
        classes = dropout(key, batch["semantics"][batch["seen"]], semantics_dropout)
        prototypes = nnx.merge(graph, params)(classes, classes)
        features = signed_power(batch["features"], features_power)
        logits = batch["scale"] * (losses.unit_rows(features) @ losses.unit_rows(prototypes).T)
        truth = jnp.searchsorted(batch["seen"], batch["label"])
        return jnp.sum(batch["weight"] * losses.softmax_cross_entropy(logits, truth))

    def loss(params, batch, key, axis):
        del axis
        if members == 1:
            return of_member(params, batch, key), jnp.sum(batch["weight"]), {}
        keys = jax.random.split(key, members)  # a sum of losses of their own: the gradient of each is as if alone
        totals = jax.lax.map(lambda own: of_member(own[0], batch, own[1]), (params, keys))
        return totals.sum(), jnp.sum(batch["weight"]), {}

    def prototypes_of(params, ids):
        return nnx.merge(graph, params)(jnp.asarray(semantics[ids]), jnp.asarray(semantics[seen]))

    def queries(params, features):
        powers = signed_power(features, features_power)
        return powers if members == 1 else losses.unit_rows(powers)

    def gallery(params, dataset, ids):
        if members == 1:
            return prototypes_of(params, ids)
        return jax.lax.map(lambda own: losses.unit_rows(prototypes_of(own, ids)), params).mean(axis=0)

    return Task(
        name="class_norm",
        score="cosine" if members == 1 else "dot",  # unit queries with the mean of unit prototypes: the mean cosine
        direction="semantic->visual",
        tables={"semantics": semantics, "seen": seen.astype(np.int32), "scale": np.float32(scale)},
        numbers=("scale",),
        init=init,
        loss=loss,
        queries=queries,
        gallery=gallery,
    )


def _weighted(tables: Mapping[str, np.ndarray], weights: tuple[float, ...]) -> np.ndarray:
    """The class tables side by side, each times its weight."""
    weights = tuple(weights) or (1.0,) * len(tables)
    if len(weights) != len(tables):
        raise UserError(f"task.source_weights has {len(weights)} numbers: expected {len(tables)}, one for each source")
    return np.concatenate([np.float32(w) * x for w, x in zip(weights, tables.values(), strict=True)], axis=1)
