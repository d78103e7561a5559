"""DS-SJE and DA-SJE: text encoders learn to score an image's sentences high (Reed, Akata, Lee & Schiele, CVPR 2016).

    F(v, t) = <v, phi(t)>                                    v the image feature, phi a text encoder (models/text.py)
    L_v = 1/B^2 sum_i sum_{j != i} max(0, 1 + F(v_i, t_j) - F(v_i, t_i))
    L_t = 1/B^2 sum_j sum_{i != j} max(0, 1 + F(v_i, t_j) - F(v_j, t_j))
    DS-SJE (symmetric) L_v + L_t,  DA-SJE L_v

A batch has B different classes, one image of each and one of its captions, drawn on the device (`train.batching` =
classes); the sums run over the batch of all devices together. That every violation counts, not only the largest, and
the division by B^2, are those of the released code. A class is the mean of phi over its captions, which for a dot
product is the mean score. Nothing is normalised unless `features_scale` says so.

With `attributes` or `word2vec` for phi the vector is given and one linear layer learned.

Batch fields: label [b], weight [b]; tables: features [n, d] of the training images class by class, first_image [c],
n_images [c], inputs [m, ...], first [n], count [n], margin.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from demjax import losses
from demjax.checks import choose, in_range
from demjax.data.class_set import ClassSet as Dataset
from demjax.data.fingerprints import digest
from demjax.models import ENCODERS, VECTORS, TextEncoder
from demjax.tasks import sentences
from demjax.tasks.scaling import feature_scaler
from demjax.tasks.task import Task


def description(
    dataset: Dataset,
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
    """Builds the task for a data set with captions; `attributes` needs none.

    Args:
      dataset: gives d, captions and, for `attributes`, the class table.
      encoder: of models/text.py: char_cnn_rnn, word_cnn_rnn, char_cnn, word_cnn, char_lstm, word_lstm, bow, word2vec,
        attributes ...
      symmetric: DS-SJE, else DA-SJE.
      margin: > 0.
      width: factor on the inner layers, > 0; 1 as published.
      dropout: share of what enters the last layer, [0, 1); 0 as released.
      features_scale: `none`, as released, `unit` or `standard`.
      semantics_scale: of the class table: `none`, `unit` or `sqrt`.
      word_vectors: file of word vectors for `word2vec`.

    Raises:
      UserError: a data set without captions, a setting out of range or unknown.
    """
    reads = choose("task.encoder", encoder, ENCODERS).reads
    for what, value, low in (("margin", margin, 0), ("width", width, 0)):
        in_range(f"task.{what}", value, low, open_low=True)
    in_range("task.dropout", dropout, 0, 0.99)
    scaler, label_of = feature_scaler(dataset, features_scale), np.arange(len(dataset.classes))
    captions = None if encoder == "attributes" else sentences.captions_of(dataset, "description")
    if captions is None:
        table = dataset.class_vectors(semantics_scale)
        reader = sentences.Reader(np.asarray, table.shape[1])
    elif reads == VECTORS:
        reader = sentences.word_averages(dataset, captions, word_vectors)
    else:
        reader = sentences.one_hot(dataset, captions, reads)
    inputs = table if captions is None else reader.read(captions.sentences)
    training = None if captions is None else sentences.training_captions(dataset, captions)
    images = dataset.splits["trainval"]
    images = images[np.argsort(dataset.labels[images], kind="stable")]
    labels = dataset.labels[images]
    n_images = np.bincount(labels, minlength=len(dataset.classes)).astype(np.int32)
    first, count = (
        (labels.astype(np.int32), np.ones(len(labels), np.int32))
        if training is None
        else training.captions_for(images, labels)
    )

    def network(key):
        rngs = nnx.Rngs(key)
        return TextEncoder(
            encoder, reader.n_in, dataset.features.shape[1], width=float(width), dropout=float(dropout), rngs=rngs
        )

    graph = nnx.graphdef(nnx.eval_shape(lambda: network(jax.random.key(0))))

    def encode(params, inputs, keys=None):
        return nnx.merge(graph, params)(inputs, keys)

    def loss(params, batch, key, axis):
        label, weight = batch["label"], batch["weight"]
        keys = jax.vmap(lambda row: jax.random.split(jax.random.fold_in(key, row), 3))(batch["row"])
        image = batch["first_image"][label] + sentences.draw(keys[:, 0], batch["n_images"][label])
        caption = batch["first"][image] + sentences.draw(keys[:, 1], batch["count"][image])
        v = scaler(batch["features"][image])
        t = encode(params, batch["inputs"][caption], keys[:, 2])
        everywhere = jax.lax.all_gather((v, t, weight), axis, tiled=True)
        total, right = _one_way(v, everywhere[1], weight, everywhere[2], batch["margin"], axis)
        if symmetric:
            back, _ = _one_way(t, everywhere[0], weight, everywhere[2], batch["margin"], axis)
            total += back
        size = jnp.sum(everywhere[2])
        return total, jnp.sum(weight) * size, {"batch_top1": right * size}

    block = jax.jit(encode)

    def gallery(params, dataset, ids):
        rows = np.asarray(ids) if captions is None else captions.rows_of(np.asarray(ids))
        label = label_of[: len(ids)] if captions is None else np.repeat(np.arange(len(ids)), captions.count[ids])
        return sentences.class_means(sentences.encode_blocks(block, params, inputs[rows]), label, len(ids))

    return Task(
        name="description",
        score="dot",
        direction="semantic->visual",
        fields=("label", "weight"),
        rows=("classes",),
        tables={
            "features": dataset.features[images],
            "first_image": (np.cumsum(n_images) - n_images).astype(np.int32),
            "n_images": n_images,
            "inputs": inputs if training is None else reader.read(training.sentences),
            "first": first,
            "count": count,
            "margin": np.float32(margin),
        },
        numbers=("margin",),
        init=lambda key: nnx.state(network(key), nnx.Param),
        loss=loss,
        queries=lambda params, features: scaler(features),
        gallery=gallery,
        encode=None
        if captions is None
        else lambda params, some: sentences.encode_blocks(block, params, reader.read(some)),
        report=reader.report,
        notes=reader.notes,
        fingerprint=digest(inputs) if encoder == "word2vec" else "",
        protocols=("zsl", "gzsl", "retrieval"),
    )


def _one_way(anchors, others, weight, weights, margin, axis) -> tuple[jax.Array, jax.Array]:
    """(sum of violations, anchors whose own pair scores highest), of the anchors here against the others everywhere."""
    scores = anchors @ others.T
    truth = jax.lax.axis_index(axis) * len(anchors) + jnp.arange(len(anchors))
    violated = losses.violations(scores, truth, margin)
    scores = jnp.where(weights[None] > 0, scores, -jnp.inf)
    right = jnp.sum(weight * (jnp.argmax(scores, axis=1) == truth))
    return jnp.sum(violated * weights[None] * weight[:, None]), right
