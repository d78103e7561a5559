"""Ridge regression between images and semantics, in either direction (the comparison of Zhang, Xiang & Gong 2017).

Rows are samples: X [n, d] features, Z [n, a] the semantics of the class of each image.

    V->S  W = (X'X + l I)^-1 X'Z            nearest a_c to x W
    S->V  M = (Z'Z + l I)^-1 Z'X            nearest a_c M to x         (needs class counts and sums only)

Queries projected to the semantic space shrink and crowd around few classes, which become hubs; prototypes projected to
the visual space do not. Solved in float64. Protocols: ZSL and generalised ZSL.
"""

import numpy as np

from demjax.checks import choose, in_range
from demjax.data import ClassSet, Spec
from demjax.tasks.task import State, Task
from demjax.tasks.zsl.linear import DIRECTIONS, SPECTRA, TO_SEMANTIC, class_sums, linear

SCORES = ("euclidean", "cosine")


def ridge(
    spec: Spec,
    *,
    direction: str = "semantic->visual",
    l2: int | float = 1.0,
    features_scale: str = "none",
    semantics_scale: str = "none",
    score: str = "euclidean",
) -> Task:
    """Ridge regression in either direction.

    Args:
      spec: gives the sources of semantics.
      direction: `semantic->visual` or `visual->semantic`.
      l2: lambda > 0; its range depends on both scales: try 1e-3 to 1e6.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.
      score: `euclidean` or `cosine`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.l2", l2, 0, open_low=True)
    choose("task.direction", direction, dict.fromkeys(DIRECTIONS))
    choose("task.score", score, dict.fromkeys(SCORES))

    def weights(dataset: ClassSet) -> tuple[np.ndarray, State]:
        a = dataset.class_vectors(semantics_scale)[dataset.seen].astype(np.float64)
        if direction == TO_SEMANTIC:
            x = SPECTRA.of(dataset, features_scale)
            return x.vectors @ ((x.turned @ a) / (x.values + l2)[:, None]), x.state
        _, sums, counts, state = class_sums(dataset, features_scale, gram=False)
        return np.linalg.solve(a.T @ (counts[:, None] * a) + l2 * np.eye(a.shape[1]), (sums @ a).T), state

    scales = dict(features_scale=features_scale, semantics_scale=semantics_scale)
    return linear("ridge", spec, weights, **scales, score=score, direction=direction)
