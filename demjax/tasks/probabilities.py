"""Systems that go through probabilities of seen classes or of attributes: ConSE, IAP, DAP.

    ConSE  p = softmax(x V + b) over the seen classes; f(x) = sum_{T likeliest} p_s a_s / sum p_s;
           argmax_c cos(f(x), a_c)
    IAP    p(a_m | x) = sum_s p_s(x) B_sm, then as DAP
    DAP    p(a_m | x) = sigmoid(x V + b);
           argmax_c sum_m log p(a_m = B_cm | x) - log p(a_m = B_cm)

B are the attributes as yes or no: above the mean of the attribute over the seen classes. p(a_m) is the share of seen
classes that have it. Probabilities stay in [1e-6, 1 - 1e-6], so that one certain attribute cannot decide alone.

References: ConSE: Norouzi et al. 2014. DAP and IAP: Lampert, Nickisch & Harmeling 2009.

Batch fields: features [b, d], label [b], weight [b]; tables: seen [s], binary [c, a].
"""

import jax
import jax.numpy as jnp
import numpy as np

from demjax import losses
from demjax.checks import in_range
from demjax.data.class_set import ClassSet as Dataset
from demjax.tasks.scaling import feature_scaler
from demjax.tasks.task import Task

LEAST = 1e-6


def _start(n_in: int, n_out: int):
    return lambda key: {"weights": jnp.zeros((n_in, n_out)), "bias": jnp.zeros(n_out)}


def _class_loss(scaler):
    """Cross-entropy of the true class among the seen ones."""

    def loss(params, batch, key, axis):
        del key, axis
        logits = scaler(batch["features"]) @ params["weights"] + params["bias"][None]
        truth = jnp.searchsorted(batch["seen"], batch["label"])
        total = jnp.sum(batch["weight"] * losses.softmax_cross_entropy(logits, truth))
        return total, jnp.sum(batch["weight"]), {}

    return loss


def binary_attributes(dataset: Dataset) -> np.ndarray:
    """[c, a], True where a class has more of an attribute than the seen classes on average."""
    table = dataset.class_vectors()
    return table > table[dataset.seen].mean(axis=0)


def _evidence(probability: jax.Array) -> jax.Array:
    """[q, 2 a + 1]: what every answer of every attribute is worth, and a one for the prior."""
    p = jnp.clip(probability, LEAST, 1 - LEAST)
    return jnp.concatenate([jnp.log(p), jnp.log1p(-p), jnp.ones_like(p[:, :1])], axis=1)


def _expected(binary: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """[c, 2 a + 1]: which answers a class expects, and minus the logarithm of their prior."""
    prior = np.clip(binary[seen].mean(axis=0), LEAST, 1 - LEAST)
    of_class = np.where(binary, np.log(prior), np.log1p(-prior)).sum(axis=1)
    return np.concatenate([binary, ~binary, -of_class[:, None]], axis=1).astype(np.float32)


def conse(dataset: Dataset, *, classes: int = 10, features_scale: str = "unit", semantics_scale: str = "unit") -> Task:
    """Convex combination of semantic embeddings.

    Args:
      classes: T, how many of the likeliest seen classes are combined, 1 to the number of seen classes.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    seen, table = dataset.seen, dataset.class_vectors(semantics_scale)
    in_range("task.classes", classes, 1)
    scaler, likeliest = feature_scaler(dataset, features_scale), min(classes, len(seen))

    def queries(params, features):
        p = jax.nn.softmax(scaler(features) @ params["weights"] + params["bias"][None], axis=1)
        top, ids = jax.lax.top_k(p, likeliest)
        return jnp.einsum("qt,qta->qa", top / top.sum(axis=1, keepdims=True), jnp.asarray(table[seen])[ids])

    return Task(
        name="conse",
        score="cosine",
        direction="visual->semantic",
        tables={"seen": seen.astype(np.int32)},
        init=_start(dataset.features.shape[1], len(seen)),
        loss=_class_loss(scaler),
        queries=queries,
        gallery=lambda params, dataset, ids: jnp.asarray(table[ids]),
    )


def iap(dataset: Dataset, *, features_scale: str = "unit") -> Task:
    """Indirect attribute prediction: attributes by way of the seen classes.

    Args:
      features_scale: `none`, `unit` or `standard`.

    Raises:
      UserError: an unknown scale.
    """
    seen, binary = dataset.seen, binary_attributes(dataset)
    scaler, expected = feature_scaler(dataset, features_scale), _expected(binary, seen)

    def queries(params, features):
        p = jax.nn.softmax(scaler(features) @ params["weights"] + params["bias"][None], axis=1)
        return _evidence(p @ binary[seen].astype(np.float32))

    return Task(
        name="iap",
        score="dot",
        direction="visual->semantic",
        tables={"seen": seen.astype(np.int32)},
        init=_start(dataset.features.shape[1], len(seen)),
        loss=_class_loss(scaler),
        queries=queries,
        gallery=lambda params, dataset, ids: jnp.asarray(expected[ids]),
    )


def dap(dataset: Dataset, *, features_scale: str = "unit") -> Task:
    """Direct attribute prediction: one classifier for each attribute. Arguments and errors as for `iap`."""
    binary = binary_attributes(dataset)
    scaler, expected = feature_scaler(dataset, features_scale), _expected(binary, dataset.seen)

    def logits(params, features):
        return scaler(features) @ params["weights"] + params["bias"][None]

    def loss(params, batch, key, axis):
        del key, axis
        z = logits(params, batch["features"])
        wrong = jax.nn.softplus(jnp.where(batch["binary"][batch["label"]], -z, z)).sum(axis=1)
        return jnp.sum(batch["weight"] * wrong), jnp.sum(batch["weight"]), {}

    return Task(
        name="dap",
        score="dot",
        direction="visual->semantic",
        tables={"binary": binary},
        init=_start(dataset.features.shape[1], binary.shape[1]),
        loss=loss,
        queries=lambda params, features: _evidence(jax.nn.sigmoid(logits(params, features))),
        gallery=lambda params, dataset, ids: jnp.asarray(expected[ids]),
    )
