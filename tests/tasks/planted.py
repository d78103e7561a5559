"""A small planted set and batches for the tests of tasks."""

import jax
import jax.numpy as jnp
import numpy as np

from demjax.data.batches import examples
from demjax.data.sources import planted as synthetic

DATA = synthetic.plant(n_classes=12, n_unseen=3, n_attributes=6, n_features=20, images_per_class=13)
X = DATA.features[DATA.splits["trainval"]].astype(np.float64)
LABELS = DATA.labels[DATA.splits["trainval"]]
SEEN = DATA.seen
TRUTH = np.searchsorted(SEEN, LABELS)
UNIT_X = X / np.linalg.norm(X, axis=1, keepdims=True)


def unit(a):
    return a / np.linalg.norm(a, axis=1, keepdims=True)


UNIT_A = unit(DATA.semantics.astype(np.float64))


def mean_loss(task, params, data=DATA):
    """Of all training images, as the engine divides it; the empty row at the end must not count."""
    batch = {k: jnp.asarray(v) for k, v in (examples(data).columns | dict(task.tables)).items()}
    total, count, _ = task.loss(params, batch, jax.random.key(0), "data")
    assert float(count) == len(X)
    return float(total / count)


def all_scores(task, params, n=6):
    """Inner products of the first images with all classes."""
    queries = np.asarray(task.queries(params, jnp.asarray(DATA.features[:n])), np.float64)
    return queries @ np.asarray(task.gallery(params, DATA, np.arange(12)), np.float64).T


def violations(scores, truth, margin):
    v = np.maximum(0, margin + scores - scores[np.arange(len(scores)), truth][:, None])
    v[np.arange(len(v)), truth] = 0
    return v
