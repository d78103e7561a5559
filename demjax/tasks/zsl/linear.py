"""What the closed forms share: products of the training images, their spectrum, and a linear map as a task.

Rows are samples: X [n, d] features, A [s, a] semantics of the seen classes, Y [n, s] one-hot, Z = Y A. Ridge
regression, ESZSL and SAE are functions of X'X, Z'X and Z'Z. The eigenvectors of X'X are computed once for a data set,
in float64, and kept: a sweep over l, or over alpha and gamma, is then an elementwise division and two products a point.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from demjax.data import ClassSet, Spec
from demjax.data.lazy_rows import read_rows
from demjax.protocols import GZSL, ZSL
from demjax.search import Score
from demjax.tasks.task import State, Task, Variables
from demjax.tasks.zsl.inputs import class_scaler, feature_scaler

TO_VISUAL, TO_SEMANTIC = DIRECTIONS = ("semantic->visual", "visual->semantic")
BLOCK = 4096  # images in float64 at once
KEPT = 3  # spectra in memory: a selection has one for each fold


class ClassSums(NamedTuple):
    """X'X [d, d] where wanted, X'Y [d, s] and counts [s] of the seen classes in float64; the state of the scaling."""

    gram: np.ndarray
    sums: np.ndarray
    counts: np.ndarray
    state: State


class Spectrum(NamedTuple):
    """X'X = vectors diag(values) vectors'; turned = vectors' X'Y; the rest as in ClassSums."""

    values: np.ndarray
    vectors: np.ndarray
    sums: np.ndarray
    turned: np.ndarray
    counts: np.ndarray
    state: State


def class_sums(dataset: ClassSet, features_scale: str, gram: bool) -> ClassSums:
    """The products of the training images, in blocks of them."""
    ids, seen = dataset.splits["trainval"], dataset.seen
    position = np.searchsorted(seen, dataset.labels[ids])
    d = dataset.features.shape[1]
    product, sums = np.zeros((d, d) if gram else 0), np.zeros((d, len(seen)))
    scaler = feature_scaler(features_scale)
    state = scaler.statistics(dataset)
    for start in range(0, len(ids), BLOCK):
        rows = read_rows(dataset.features, ids[start : start + BLOCK])
        x = np.asarray(scaler.scale(state, rows), np.float64)
        if gram:
            product += x.T @ x
        sums += x.T @ np.eye(len(seen))[position[start : start + BLOCK]]
    return ClassSums(product, sums, np.bincount(position, minlength=len(seen)).astype(float), state)


def decompose(dataset: ClassSet, features_scale: str) -> Spectrum:
    """The spectrum of the training images: one eigendecomposition [d, d] in float64."""
    gram, sums, counts, state = class_sums(dataset, features_scale, gram=True)
    values, vectors = np.linalg.eigh(gram)
    return Spectrum(np.maximum(values, 0.0), vectors, sums, vectors.T @ sums, counts, state)


class Spectra:
    """The spectra of the last KEPT data sets and scales.

    Every point of a sweep builds a task and solves it, and the spectrum is the same for all of them and nearly all of
    the work, so it outlives the task. It is kept by the fingerprints of the data and not by the object, because a view
    of the same fold may be made twice; beyond KEPT the oldest one goes, as each takes d^2 numbers.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, ...], Spectrum] = {}

    def of(self, dataset: ClassSet, features_scale: str) -> Spectrum:
        """The spectrum of the training images, computed where it is not kept."""
        key = (*dataset.fingerprints.values(), features_scale)
        if key not in self._kept:
            if len(self._kept) == KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = decompose(dataset, features_scale)
        return self._kept[key]


SPECTRA = Spectra()


def linear(
    name: str,
    spec: Spec,
    weights: Callable[[ClassSet], tuple[np.ndarray, State]],
    *,
    features_scale: str,
    semantics_scale: str,
    score: str,
    direction: str,
) -> Task:
    """x W meets a_c, or x meets a_c M, by the direction.

    Args:
      name: of the task.
      spec: gives the sources of semantics.
      weights: (dataset) -> W or M in float64, and the state of the features' scaling.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.
      score: how they meet.
      direction: one of DIRECTIONS.

    Raises:
      UserError: an unknown scale.
    """
    to_visual, scaler = direction == TO_VISUAL, feature_scaler(features_scale)
    vectors = class_scaler(semantics_scale, spec.parts)

    def solve(dataset):
        solution, state = weights(dataset)
        return Variables({"weights": jnp.asarray(solution, jnp.float32)}, state)

    def embed_images(variables, images):
        x = scaler.scale(variables.state, images["features"])
        return x if to_visual else x @ variables.params["weights"]

    def embed_classes(variables, classes):
        table = jnp.asarray(vectors(classes))
        return table @ variables.params["weights"] if to_visual else table

    return Task(
        name=name,
        score=Score(score),
        summary=direction,
        protocols=(ZSL, GZSL),
        solve=solve,
        statistics=scaler.statistics,
        embed={"image": embed_images, "class": embed_classes},
    )
