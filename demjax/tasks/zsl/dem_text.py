"""DEM with descriptions: a bidirectional LSTM reads sentences into the visual space (Zhang, Xiang & Gong, CVPR 2017).

    f(sentence) = ReLU(W2 u + b2),   u = ReLU(W_fwd h_fwd + W_bwd h_bwd + b1)             models/lstm.py
    fused with attributes a:         u = f2(W_fwd h_fwd + W_bwd h_bwd + W_a a + b1)
    loss  1/N sum_i ||x_i - f(sentence drawn for image i)||^2 + lambda (sum of squared weights)

Trained end to end, word vectors included. In every step each image draws one sentence of its class (none that was
written for a test image); the prototype of a class is the mean of f over all its sentences. Sentences have 30 words at
most.

The sentence may be read by another network instead: `encoder` names one of models/text.py, the encoders of DS-SJE, and
f is its output behind a ReLU.

Batch fields: features [b, d], label [b], weight [b], row [b], the place of the image in trainval; constants:
inputs [n, t] of the captions, first [i + 1] and count [i + 1] by image, semantics [c, a], l2.
Protocols: ZSL, generalised ZSL, and retrieval between class texts, captions and images.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from demjax import losses
from demjax.checks import UserError, choose, in_range, whole_number
from demjax.data import ClassSet, Spec
from demjax.data.batches import examples
from demjax.models import CELLS, ENCODERS, VECTORS, DescriptionEncoder, TextEncoder
from demjax.protocols import GZSL, TEXT_RETRIEVAL, ZSL
from demjax.search import Score
from demjax.tasks.functional import network
from demjax.tasks.task import Task, Variables
from demjax.tasks.zsl.inputs import SEMANTICS_SCALES, scaled_vectors
from demjax.tasks.zsl.sentences import Reader, draw, need_captions, symbols, training_constants, words

SCORES = ("cosine", "euclidean")
BILSTM = "bilstm"
READERS = {BILSTM: None} | {name: e for name, e in ENCODERS.items() if e.reads != VECTORS}


def _check(l2: int | float, score: str, semantics_scale: str) -> None:
    in_range("task.l2", l2, 0)
    choose("task.score", score, dict.fromkeys(SCORES))
    choose("task.semantics_scale", semantics_scale, SEMANTICS_SCALES)


def dem_text(
    spec: Spec,
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
    """Builds the task for a ClassSet with descriptions.

    Args:
      spec: gives d, the vocabulary and, for fusion, a.
      encoder: `bilstm`, or an encoder of sentences by name (models/text.py), of `width` times the published width;
        the settings from `embedding` to `fused` are those of `bilstm`.
      width: factor on the inner layers of such an encoder, > 0.
      embedding, units: width of the word vectors, and units of the LSTM in each direction; >= 1.
      hidden: units of the layer that joins both directions, >= 1; the paper has 700 alone and 900 fused.
      cell: activation of the LSTM, `relu` as in the paper, or `tanh`.
      forget_bias: of the forget gate, -10 to 10; 5 lets a sentence of 30 words through from the start.
      fused: whether the class vectors, scaled by `semantics_scale` (`none`, `unit`, `sqrt`), stand beside the sentence.
      l2: lambda, >= 0.
      score: `cosine` or `euclidean`.

    Raises:
      UserError: a data set without descriptions; a setting out of range or unknown.
    """
    _check(l2, score, semantics_scale)
    reader = _reader(spec, encoder, fused)
    sizes, layers = dict(embedding=embedding, units=units, hidden=hidden), dict(cell=cell, forget_bias=forget_bias)
    init, f = _network(spec, reader, encoder, width, sizes, layers, fused)

    def constants(dataset: ClassSet):
        captions = training_constants(dataset, reader, dataset.splits["trainval"])
        return captions | {"semantics": dataset.class_vectors(semantics_scale), "l2": np.float32(l2)}

    def embed_sentences(variables, items):
        beside = (scaled_vectors(items["semantics"], semantics_scale, spec.parts),) if fused else ()
        return f(variables.params, items["sentences"], *beside)

    return Task(
        name="dem_text",
        score=Score(score),
        summary="semantic->visual",
        protocols=(ZSL, GZSL, TEXT_RETRIEVAL),
        init=lambda key: Variables(init(key)),
        loss=_loss(f, fused),
        batchings={"examples": examples},
        constants=constants,
        sweepable=("l2",),
        reads={"text": ("sentences", "semantics") if fused else ("sentences",)},
        embed={"image": lambda variables, images: images["features"], "text": embed_sentences},
        **reader.of_task,
    )


def _reader(spec: Spec, encoder: str, fused: bool) -> Reader:
    """The sentences as the encoder takes them.

    Raises:
      UserError: a data set without descriptions, an unknown encoder, or one that cannot be fused.
    """
    reads = choose("task.encoder", encoder, READERS)
    if fused and encoder != BILSTM:
        raise UserError(f"task.fused is for task.encoder={BILSTM}: {encoder} reads sentences only")
    need_captions(spec, "dem_text")
    return symbols(spec, reads.reads) if reads else words(spec)


def _network(
    spec: Spec, reader: Reader, encoder: str, width, sizes: dict[str, Any], layers: dict[str, Any], fused: bool
):
    """(init, f): (key) -> params, and (params, inputs [, attributes]) -> [b, d]."""
    for name, size in sizes.items():
        whole_number(f"task.{name}", size, 1)
    choose("task.cell", layers["cell"], dict.fromkeys(CELLS))
    in_range("task.forget_bias", layers["forget_bias"], -10, 10)
    in_range("task.width", width, 0, open_low=True)
    n_out = spec.n_features
    if encoder != BILSTM:
        init, phi = network(lambda rngs: TextEncoder(encoder, reader.n_in(), n_out, width=float(width), rngs=rngs))
        return init, lambda params, inputs: nnx.relu(phi(params, inputs))
    layers = layers | dict(forget_bias=float(layers["forget_bias"]), n_attributes=spec.n_semantics if fused else 0)
    widths = *sizes.values(), n_out
    return network(lambda rngs: DescriptionEncoder(reader.n_in(), *widths, rngs=rngs, **layers))


def _loss(f, fused: bool):
    def loss(variables, batch, key, axis):
        del axis
        row, count = batch["row"], jnp.sum(batch["weight"])
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(row)
        chosen = batch["first"][row] + draw(keys, batch["count"][row])
        beside = (batch["semantics"][batch["label"]],) if fused else ()
        predicted = f(variables.params, batch["inputs"][chosen], *beside)
        fit = jnp.sum(batch["weight"] * losses.squared_distance(batch["features"], predicted))
        penalty = batch["l2"] * losses.squared_norm(variables.params, biases=False)
        return fit + count * penalty, count, {"fit": fit}, variables.state

    return loss
