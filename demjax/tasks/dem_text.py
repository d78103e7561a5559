"""DEM with descriptions: a bidirectional LSTM reads sentences into the visual space (Zhang, Xiang & Gong, CVPR 2017).

    f(sentence) = ReLU(W2 u + b2),   u = ReLU(W_fwd h_fwd + W_bwd h_bwd + b1)             models/lstm.py
    fused with attributes a:         u = f2(W_fwd h_fwd + W_bwd h_bwd + W_a a + b1)
    loss  1/N sum_i ||x_i - f(sentence drawn for image i)||^2 + lambda (sum of squared weights)

Trained end to end, word vectors included. In every step each image draws one sentence of its class; the prototype of a
class is the mean of f over all its sentences. Sentences have 30 words at most.

Batch fields: features [b, d], label [b], weight [b]; tables: tokens [n, t], first [c], count [c], semantics [c, a], l2.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from demjax import losses
from demjax.checks import UserError, choose, in_range
from demjax.data.dataset import Dataset
from demjax.data.descriptions import FIRST_WORD
from demjax.models import CELLS, DescriptionEncoder
from demjax.tasks.task import Task

SCORES = ("cosine", "euclidean")
SENTENCES = 1024  # embedded at once for prototypes


def dem_text(
    dataset: Dataset,
    *,
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
    if dataset.descriptions is None:
        raise UserError(
            "task dem_text reads sentences: set data.descriptions to a file of lines "
            '{"class": ..., "text": ...}, or to generated'
        )
    for what, value in (("embedding", embedding), ("units", units), ("hidden", hidden)):
        in_range(f"task.{what}", value, 1)
    in_range("task.l2", l2, 0)
    in_range("task.forget_bias", forget_bias, -10, 10)
    choose("task.cell", cell, CELLS)
    choose("task.score", score, dict.fromkeys(SCORES))
    text, table = dataset.descriptions, dataset.table(semantics_scale)

    def encoder(key):
        return DescriptionEncoder(
            len(text.words) + FIRST_WORD, embedding, units, hidden, dataset.features.shape[1],
            n_attributes=table.shape[1] if fused else 0, cell=cell, forget_bias=float(forget_bias), rngs=nnx.Rngs(key),
        )  # fmt: skip

    graph = nnx.graphdef(nnx.eval_shape(lambda: encoder(jax.random.key(0))))

    def embed(params, tokens, attributes):
        return nnx.merge(graph, params)(tokens, attributes)

    def loss(params, batch, key, axis):
        del axis
        label = batch["label"]
        draws = jax.vmap(lambda row: jax.random.uniform(jax.random.fold_in(key, row)))(batch["row"])
        chosen = batch["first"][label] + jnp.minimum(
            (draws * batch["count"][label]).astype(jnp.int32), batch["count"][label] - 1
        )
        predicted = embed(params, batch["tokens"][chosen], batch["semantics"][label])
        fit = jnp.sum(batch["weight"] * losses.squared_distance(batch["features"], predicted))
        count = jnp.sum(batch["weight"])
        return fit + count * batch["l2"] * losses.squared_norm(params, biases=False), count, {"fit": fit}

    block = jax.jit(embed)

    def gallery(params, dataset, ids):
        own = text.of(np.asarray(ids))
        label = np.repeat(np.arange(len(ids)), own.count)
        attributes = table[np.asarray(ids)]
        total = jnp.zeros((len(ids), dataset.features.shape[1]))
        for start in range(0, len(label), SENTENCES):
            some = slice(start, start + SENTENCES)
            embedded = block(params, jnp.asarray(own.tokens[some]), jnp.asarray(attributes[label[some]]))
            total = total.at[label[some]].add(embedded)
        return total / own.count[:, None]

    return Task(
        name="dem_text",
        score=score,
        direction="semantic->visual",
        tables={
            "tokens": text.tokens,
            "first": text.first.astype(np.int32),
            "count": text.count.astype(np.int32),
            "semantics": table,
            "l2": np.float32(l2),
        },
        numbers=("l2",),
        init=lambda key: nnx.state(encoder(key), nnx.Param),
        loss=loss,
        queries=lambda params, features: features,
        gallery=gallery,
    )
