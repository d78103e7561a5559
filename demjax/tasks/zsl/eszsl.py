"""ESZSL, an embarrassingly simple approach to zero-shot learning (Romera-Paredes & Torr, ICML 2015).

    W = (X'X + 10^alpha I)^-1 X'Y A (A'A + 10^gamma I)^-1        argmax_c x W a_c

X [n, d] features, Y [n, s] in {0, 1} the classes of the images, A [s, a] semantics of the seen classes. Solved in
float64. Protocols: ZSL and generalised ZSL.
"""

import numpy as np

from demjax.checks import in_range
from demjax.data import ClassSet, Spec
from demjax.tasks.task import State, Task
from demjax.tasks.zsl.linear import SPECTRA, TO_SEMANTIC, linear


def eszsl(
    spec: Spec,
    *,
    alpha: int | float = 3.0,
    gamma: int | float = 0.0,
    features_scale: str = "none",
    semantics_scale: str = "none",
) -> Task:
    """ESZSL, the bilinear score x W a.

    Args:
      spec: gives the sources of semantics.
      alpha, gamma: powers of ten added to X'X and to A'A, from -20 to 20; the usual grid is -3 to 3.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.alpha", alpha, -20, 20)
    in_range("task.gamma", gamma, -20, 20)

    def weights(dataset: ClassSet) -> tuple[np.ndarray, State]:
        x = SPECTRA.of(dataset, features_scale)
        a = dataset.class_vectors(semantics_scale)[dataset.seen].astype(np.float64)
        values, vectors = np.linalg.eigh(a.T @ a)
        inner = x.turned @ a @ vectors
        inner /= (x.values + 10.0**alpha)[:, None] * (np.maximum(values, 0.0) + 10.0**gamma)[None]
        return x.vectors @ inner @ vectors.T, x.state

    scales = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    return linear("eszsl", spec, weights, **scales, score="dot", direction=TO_SEMANTIC)
