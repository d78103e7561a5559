"""DEM with descriptions: a bidirectional LSTM reads sentences into the visual space (Zhang, Xiang & Gong, CVPR 2017).

    f(sentence) = ReLU(W2 u + b2),   u = ReLU(W_fwd h_fwd + W_bwd h_bwd + b1)             models/lstm.py
    fused with attributes a:         u = f2(W_fwd h_fwd + W_bwd h_bwd + W_a a + b1)
    loss  1/N sum_i ||x_i - f(sentence drawn for image i)||^2 + lambda (sum of squared weights)

Trained end to end, word vectors included. In every step each image draws one sentence of its class (none that was
written for a test image); the prototype of a class is the mean of f over all its sentences. Sentences have 30 words at
most.

The sentence may be read by another network instead: `encoder` names one of models/text.py, the encoders of DS-SJE, and
f is its output behind a ReLU.

Batch fields: features [b, d], label [b], weight [b]; tables: inputs [n, t], first [c], count [c], semantics [c, a], l2.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from demjax import losses
from demjax.checks import UserError, choose, in_range
from demjax.data.class_set import ClassSet as Dataset
from demjax.models import CELLS, ENCODERS, VECTORS, DescriptionEncoder, TextEncoder
from demjax.tasks import sentences
from demjax.tasks.task import Task

SCORES = ("cosine", "euclidean")
BILSTM = "bilstm"
READERS = {BILSTM: None} | {name: e for name, e in ENCODERS.items() if e.reads != VECTORS}


def dem_text(
    dataset: Dataset,
    *,
    encoder: str = BILSTM,
    width: int | float = 1.0,
    embedding: int = 512,
    units: int = 512,
    hidden: int = 700,
    cell: str = "relu",
    forget_bias: int | float = 1.0,
    fused: bool = False,
    semantics_scale: str = "sqrt",
    l2: int | float = 1e-4,
    score: str = "cosine",
) -> Task:
    """Builds the task for a data set with descriptions.

    Args:
      dataset: gives d, the sentences of every class (`data.descriptions`) and, for fusion, its class table.
      encoder: `bilstm`, or an encoder of sentences by name (models/text.py), of `width` times the published width;
        the settings from `embedding` to `fused` are those of `bilstm`.
      embedding: width of the word vectors, >= 1.
      units: of the LSTM, in each direction, >= 1.
      hidden: units of the layer that joins both directions, >= 1; the paper has 700 alone and 900 fused.
      cell: activation of the LSTM, `relu` as in the paper, or `tanh`.
      forget_bias: of the forget gate; 5 lets a sentence of 30 words through from the start.
      fused: whether the class table stands beside the sentence.
      semantics_scale: of the class table: `none`, `unit` or `sqrt`.
      l2: lambda, >= 0.
      score: `cosine` or `euclidean`.

    Raises:
      UserError: a data set without descriptions; a setting out of range or unknown.
    """
    for what, value in (("embedding", embedding), ("units", units), ("hidden", hidden)):
        in_range(f"task.{what}", value, 1)
    in_range("task.l2", l2, 0)
    in_range("task.forget_bias", forget_bias, -10, 10)
    choose("task.cell", cell, CELLS)
    choose("task.score", score, dict.fromkeys(SCORES))
    reads = choose("task.encoder", encoder, READERS)
    in_range("task.width", width, 0, open_low=True)
    if reads and fused:
        raise UserError(f"task.fused is for task.encoder={BILSTM}: {encoder} reads sentences only")
    captions, table = sentences.captions_of(dataset, "dem_text"), dataset.class_vectors(semantics_scale)
    reader = sentences.one_hot(dataset, captions, reads.reads) if reads else sentences.words(dataset, captions)
    inputs, n_features = reader.read(captions.sentences), dataset.features.shape[1]
    training, images = sentences.training_captions(dataset, captions), dataset.splits["trainval"]
    first, count = training.captions_for(images, dataset.labels[images])

    def network(key):
        rngs = nnx.Rngs(key)
        if reads:
            return TextEncoder(encoder, reader.n_in, n_features, width=float(width), rngs=rngs)
        return DescriptionEncoder(
            reader.n_in, embedding, units, hidden, n_features,
            n_attributes=table.shape[1] if fused else 0, cell=cell, forget_bias=float(forget_bias), rngs=rngs,
        )  # fmt: skip

    graph = nnx.graphdef(nnx.eval_shape(lambda: network(jax.random.key(0))))

    def embed(params, inputs, *attributes):
        model = nnx.merge(graph, params)
        return nnx.relu(model(inputs)) if reads else model(inputs, *attributes)

    def loss(params, batch, key, axis):
        del axis
        label = batch["label"]
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(batch["row"])
        chosen = batch["first"][batch["row"]] + sentences.draw(keys, batch["count"][batch["row"]])
        beside = (batch["semantics"][label],) if fused else ()
        predicted = embed(params, batch["inputs"][chosen], *beside)
        fit = jnp.sum(batch["weight"] * losses.squared_distance(batch["features"], predicted))
        count = jnp.sum(batch["weight"])
        return fit + count * batch["l2"] * losses.squared_norm(params, biases=False), count, {"fit": fit}

    block = jax.jit(embed)

    def gallery(params, dataset, ids):
        rows, label = captions.rows_of(np.asarray(ids)), np.repeat(np.arange(len(ids)), captions.count[ids])
        beside = (table[np.asarray(ids)][label],) if fused else ()
        return sentences.class_means(sentences.encode_blocks(block, params, inputs[rows], *beside), label, len(ids))

    return Task(
        name="dem_text",
        score=score,
        direction="semantic->visual",
        tables={
            "inputs": reader.read(training.sentences),
            "first": np.append(first, np.int32(0)),  # of the empty row, too
            "count": np.append(count, np.int32(1)),
            "semantics": table,
            "l2": np.float32(l2),
        },
        numbers=("l2",),
        init=lambda key: nnx.state(network(key), nnx.Param),
        loss=loss,
        queries=lambda params, features: features,
        gallery=gallery,
        encode=None if fused else lambda params, some: sentences.encode_blocks(block, params, reader.read(some)),
        report=reader.report,
        notes=reader.notes,
        protocols=("zsl", "gzsl", "retrieval"),
    )
