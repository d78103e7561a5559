"""SAE, the semantic autoencoder (Kodirov, Xiang & Gong, CVPR 2017).

    Z'Z W + W l X'X = (1 + l) Z'X     W [a, d], its rows at length 1
    V->S cos(x W', a_c)               S->V cos(x, a_c W)

X [n, d] features, Z [n, a] the semantics of the class of each image. The Sylvester equation is solved in the
eigenvectors of X'X and Z'Z, in float64. Protocols: ZSL and generalised ZSL.
"""

import numpy as np

from demjax.checks import choose, in_range
from demjax.data import ClassSet, Spec
from demjax.tasks.task import State, Task
from demjax.tasks.zsl.linear import DIRECTIONS, SPECTRA, TO_VISUAL, linear


def sae(
    spec: Spec,
    *,
    direction: str = "semantic->visual",
    l2: int | float = 0.2,
    features_scale: str = "unit",
    semantics_scale: str = "none",
) -> Task:
    """The semantic autoencoder: one W that projects and, transposed, reconstructs.

    Args:
      spec: gives the sources of semantics.
      direction: where images and classes meet: `semantic->visual` or `visual->semantic`; the same W.
      l2: lambda > 0, the weight of the projection.
      features_scale: `none`, `unit` (as the authors) or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.l2", l2, 0, open_low=True)
    choose("task.direction", direction, dict.fromkeys(DIRECTIONS))

    def weights(dataset: ClassSet) -> tuple[np.ndarray, State]:
        x = SPECTRA.of(dataset, features_scale)
        a = dataset.class_vectors(semantics_scale)[dataset.seen].astype(np.float64)
        values, vectors = np.linalg.eigh(a.T @ (x.counts[:, None] * a))
        inner = (1 + l2) * (vectors.T @ (x.turned @ a).T)
        w = vectors @ _divided(inner, np.maximum(values, 0.0)[:, None] + l2 * x.values[None]) @ x.vectors.T
        w /= np.maximum(np.linalg.norm(w, axis=1, keepdims=True), 1e-300)
        return (w if direction == TO_VISUAL else w.T), x.state

    scales = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    return linear("sae", spec, weights, **scales, score="cosine", direction=direction)


def _divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, and 0 where b >= 0 is 0 up to rounding.

    There neither images nor classes decide anything, so any value solves the equation; 0 is the smallest.
    """
    nothing = b <= b.max() * max(b.shape) * 10 * np.finfo(np.float64).eps
    return np.where(nothing, 0.0, a / np.where(nothing, 1.0, b))
