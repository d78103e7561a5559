"""DS-SJE and DA-SJE: text encoders learn to score an image's sentences high (Reed, Akata, Lee & Schiele, CVPR 2016).

    F(v, t) = <v, phi(t)>                                    v the image feature, phi a text encoder (models/text.py)
    L_v = 1/B^2 sum_i sum_{j != i} max(0, 1 + F(v_i, t_j) - F(v_i, t_i))
    L_t = 1/B^2 sum_j sum_{i != j} max(0, 1 + F(v_i, t_j) - F(v_j, t_j))
    DS-SJE (symmetric) L_v + L_t,  DA-SJE L_v

A batch has B different classes and one image of each (`classes`, data/batches.py); one caption of each image is drawn
on the device. The sums run over the batch of all devices together. That every violation counts, not only the largest,
and the division by B^2, are those of the released code. A class is the mean of phi over its captions, which for a dot
product is the mean score. Nothing is normalised unless `features_scale` says so.

With `attributes` or `word2vec` for phi the vector is fixed and one linear layer learned.

Batch fields: features [b, d], weight [b], row [b], the place of the image among those of `classes`; constants:
inputs [m, ...] of the captions, first [n + 1] and count [n + 1] by image, margin.
Protocols: ZSL, generalised ZSL, and retrieval between class texts, captions and images.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from demjax import losses
from demjax.checks import choose, in_range
from demjax.data import ClassSet, Spec
from demjax.data.batches import classes
from demjax.models import ENCODERS, VECTORS, TextEncoder
from demjax.protocols import GZSL, TEXT_RETRIEVAL, ZSL
from demjax.search import Score
from demjax.tasks.functional import network
from demjax.tasks.task import Items, Task, Variables
from demjax.tasks.zsl.inputs import Scaler, class_scaler, feature_scaler
from demjax.tasks.zsl.sentences import draw, need_captions, symbols, training_constants, with_empty_row, word_averages

ATTRIBUTES = "attributes"


def ds_sje(
    spec: Spec,
    *,
    encoder: str = "char_cnn_rnn",
    symmetric: bool = True,
    margin: int | float = 1.0,
    width: int | float = 1.0,
    dropout: int | float = 0.0,
    features_scale: str = "none",
    semantics_scale: str = "none",
    word_vectors: str = "",
) -> Task:
    """Builds the task for a ClassSet with captions; `attributes` needs none.

    Args:
      spec: gives d, the vocabulary and, for `attributes`, a.
      encoder: of models/text.py: char_cnn_rnn, word_cnn_rnn, char_cnn, word_cnn, char_lstm, word_lstm, bow, word2vec,
        attributes ...
      symmetric: DS-SJE, else DA-SJE.
      margin: > 0.
      width: factor on the inner layers, > 0; 1 as published.
      dropout: share of what enters the last layer, in [0, 0.99]; 0 as released.
      features_scale: `none`, as released, `unit` or `standard`.
      semantics_scale: of the class table: `none`, `unit` or `sqrt`.
      word_vectors: file of word vectors for `word2vec`.

    Raises:
      UserError: a data set without captions, a setting out of range or unknown.
    """
    reads = choose("task.encoder", encoder, ENCODERS).reads
    in_range("task.margin", margin, 0, open_low=True)
    in_range("task.width", width, 0, open_low=True)
    in_range("task.dropout", dropout, 0, 0.99)
    scaler = feature_scaler(features_scale)
    source = _attributes(spec, semantics_scale) if encoder == ATTRIBUTES else _captions(spec, reads, word_vectors)
    shares = dict(width=float(width), dropout=float(dropout))
    init, phi = network(lambda rngs: TextEncoder(encoder, source.n_in(), spec.n_features, rngs=rngs, **shares))
    return Task(
        name="ds_sje",
        score=Score("dot"),
        summary="semantic->visual",
        protocols=(ZSL, GZSL, TEXT_RETRIEVAL),
        init=lambda key: Variables(init(key)),
        loss=_loss(scaler, phi, symmetric),
        fields=("features", "weight"),
        batchings={"classes": classes},
        constants=lambda dataset: source.constants(dataset) | {"margin": np.float32(margin)},
        sweepable=("margin",),
        statistics=scaler.statistics,
        embed={
            "image": lambda variables, images: scaler.scale(variables.state, images["features"]),
            source.side: lambda variables, items: phi(variables.params, source.inputs(items), None),
        },
        **source.settings,
    )


class _Source(NamedTuple):
    """What phi reads: captions, or class vectors.

    Attributes:
      side: whose items they are.
      inputs: (items) -> the inputs of phi.
      n_in: () -> symbols, or the width of the vectors.
      constants: (dataset) -> inputs, first and count.
      settings: of the Task.
    """

    side: str
    inputs: Callable[[Items], Any]
    n_in: Callable[[], int]
    constants: Callable[[ClassSet], dict[str, np.ndarray]]
    settings: dict[str, Any]


def _attributes(spec: Spec, semantics_scale: str) -> _Source:
    vectors = class_scaler(semantics_scale, spec.parts)

    def constants(dataset):
        label = dataset.labels[_by_class(dataset)].astype(np.int32)  # one "caption" an image, its class
        return {"inputs": dataset.class_vectors(semantics_scale)} | with_empty_row(label, np.ones_like(label))

    return _Source("class", lambda items: jnp.asarray(vectors(items)), lambda: spec.n_semantics, constants, {})


def _captions(spec: Spec, reads: str, word_vectors: str) -> _Source:
    need_captions(spec, "ds_sje")
    reader = word_averages(spec, word_vectors) if reads == VECTORS else symbols(spec, reads)

    def constants(dataset):
        return training_constants(dataset, reader, _by_class(dataset))

    return _Source("text", lambda items: items["sentences"], reader.n_in, constants, reader.of_task)


def _by_class(dataset: ClassSet) -> np.ndarray:
    """The training images class by class, as the rows of `classes` (data/batches.py) are."""
    images = dataset.splits["trainval"]
    return images[np.argsort(dataset.labels[images], kind="stable")]


def _loss(scaler: Scaler, phi, symmetric: bool):
    def loss(variables, batch, key, axis):
        row, weight = batch["row"], batch["weight"]
        keys = jax.vmap(lambda row: jax.random.split(jax.random.fold_in(key, row)))(row)  # of the caption, the dropout
        caption = batch["first"][row] + draw(keys[:, 0], batch["count"][row])
        v = scaler.scale(variables.state, batch["features"])
        t = phi(variables.params, batch["inputs"][caption], keys[:, 1])
        everywhere = jax.lax.all_gather((v, t, weight), axis, tiled=True)
        total, right = _one_way(v, everywhere[1], weight, everywhere[2], batch["margin"], axis)
        if symmetric:
            back, _ = _one_way(t, everywhere[0], weight, everywhere[2], batch["margin"], axis)
            total += back
        size = jnp.sum(everywhere[2])
        return total, jnp.sum(weight) * size, {"batch_top1": right * size}, variables.state

    return loss


def _one_way(anchors, others, weight, weights, margin, axis) -> tuple[jax.Array, jax.Array]:
    """(sum of violations, anchors whose own pair scores highest), of the anchors here against the others everywhere."""
    scores = anchors @ others.T
    truth = jax.lax.axis_index(axis) * len(anchors) + jnp.arange(len(anchors), dtype=jnp.int32)
    violated = losses.violations(scores, truth, margin)
    scores = jnp.where(weights[None] > 0, scores, -jnp.inf)
    right = jnp.sum(jnp.where(jnp.argmax(scores, axis=1) == truth, weight, 0.0))
    return jnp.sum(violated * weights[None] * weight[:, None]), right
