"""Closed forms: ridge regression, ESZSL and SAE, linear maps between images and semantics.

Rows are samples: X [n, d] features, A [s, a] semantics of the seen classes, Y [n, s] one-hot, Z = Y A.

    ridge  V->S  W = (X'X + l I)^-1 X'Z            nearest a_c to x W
           S->V  M = (Z'Z + l I)^-1 Z'X            nearest a_c M to x         (needs class counts and sums only)
    ESZSL  W = (X'X + 10^alpha I)^-1 X'Y A (A'A + 10^gamma I)^-1              argmax_c x W a_c
    SAE    Z'Z W + W l X'X = (1 + l) Z'X, W [a, d], its rows at length 1      V->S cos(x W', a_c), S->V cos(x, a_c W)

Queries that ridge regression projects to the semantic space shrink and crowd around few classes, which become hubs;
prototypes projected to the visual space do not (Zhang, Xiang & Gong, CVPR 2017, who compare both directions). ESZSL:
Romera-Paredes & Torr, ICML 2015. SAE: Kodirov, Xiang & Gong, CVPR 2017.

All are functions of X'X, X'Y and the class counts. The eigenvectors of X'X are computed once for a data set, in
float64, and kept: a sweep over l, or over alpha and gamma, is then an elementwise division and two products a point.
Protocols: ZSL and generalised ZSL.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from demjax.checks import choose, in_range
from demjax.data import ClassSet, Spec
from demjax.data.lazy_rows import read_rows
from demjax.protocols import GZSL, ZSL
from demjax.search import Score
from demjax.tasks.task import State, Task, Variables
from demjax.tasks.zsl.inputs import class_scaler, feature_scaler

TO_VISUAL, TO_SEMANTIC = DIRECTIONS = ("semantic->visual", "visual->semantic")
BLOCK = 4096  # images in float64 at once
KEPT = 3  # spectra in memory: a selection has one for each fold


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
    choose("task.score", score, dict.fromkeys(("euclidean", "cosine")))

    def to_semantic(x, a):
        return x.vectors @ ((x.turned @ a) / (x.values + l2)[:, None])

    def to_visual(x, a):
        return np.linalg.solve(a.T @ (x.counts[:, None] * a) + l2 * np.eye(a.shape[1]), (x.sums @ a).T)

    if direction == TO_SEMANTIC:
        return _linear("ridge", spec, direction, features_scale, semantics_scale, score, to_semantic)
    return _linear("ridge", spec, direction, features_scale, semantics_scale, score, to_visual, class_sums)


def eszsl(
    spec: Spec,
    *,
    alpha: int | float = 3.0,
    gamma: int | float = 0.0,
    features_scale: str = "none",
    semantics_scale: str = "none",
) -> Task:
    """ESZSL, an embarrassingly simple approach to zero-shot learning: the bilinear score x W a.

    Args:
      alpha, gamma: powers of ten added to X'X and to A'A, from -20 to 20; the usual grid is -3 to 3.
      spec, features_scale, semantics_scale: as for `ridge`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.alpha", alpha, -20, 20)
    in_range("task.gamma", gamma, -20, 20)

    def weights(x, a):
        values, vectors = np.linalg.eigh(a.T @ a)
        inner = x.turned @ a @ vectors
        inner /= (x.values + 10.0**alpha)[:, None] * (np.maximum(values, 0.0) + 10.0**gamma)[None]
        return x.vectors @ inner @ vectors.T

    return _linear("eszsl", spec, TO_SEMANTIC, features_scale, semantics_scale, "dot", weights)


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
      direction: where images and classes meet: `semantic->visual` or `visual->semantic`; the same W.
      l2: lambda > 0, the weight of the projection.
      features_scale: `none`, `unit` (as the authors) or `standard`.
      spec, semantics_scale: as for `ridge`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.l2", l2, 0, open_low=True)

    def weights(x, a):
        """The Sylvester equation, solved in the eigenvectors of X'X and Z'Z."""
        values, vectors = np.linalg.eigh(a.T @ (x.counts[:, None] * a))
        inner = (1 + l2) * (vectors.T @ (x.turned @ a).T)
        w = vectors @ _divided(inner, np.maximum(values, 0.0)[:, None] + l2 * x.values[None]) @ x.vectors.T
        w /= np.maximum(np.linalg.norm(w, axis=1, keepdims=True), 1e-300)
        return w if direction == TO_VISUAL else w.T

    return _linear("sae", spec, direction, features_scale, semantics_scale, "cosine", weights)


def _divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, and 0 where b >= 0 is 0 up to rounding.

    There neither images nor classes decide anything, so any value solves the equation; 0 is the smallest.
    """
    nothing = b <= b.max() * max(b.shape) * 10 * np.finfo(np.float64).eps
    return np.where(nothing, 0.0, a / np.where(nothing, 1.0, b))


class ClassSums(NamedTuple):
    """X'Y [d, s] and the counts [s] of the seen classes, in float64; the state of the scaling; X'X [d, d] or 0."""

    sums: np.ndarray
    counts: np.ndarray
    state: State
    gram: np.ndarray


class Spectrum(NamedTuple):
    """X'X = vectors diag(values) vectors'; turned = vectors' X'Y; counts and state as in ClassSums."""

    values: np.ndarray
    vectors: np.ndarray
    turned: np.ndarray
    counts: np.ndarray
    state: State


def class_sums(dataset: ClassSet, features_scale: str, gram: bool = False) -> ClassSums:
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
    return ClassSums(sums, np.bincount(position, minlength=len(seen)).astype(float), state, product)


def decompose(dataset: ClassSet, features_scale: str) -> Spectrum:
    """The spectrum of the training images: one eigendecomposition [d, d] in float64."""
    sums, counts, state, gram = class_sums(dataset, features_scale, gram=True)
    values, vectors = np.linalg.eigh(gram)
    return Spectrum(np.maximum(values, 0.0), vectors, vectors.T @ sums, counts, state)


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


def _linear(
    name: str,
    spec: Spec,
    direction: str,
    features_scale: str,
    semantics_scale: str,
    score: str,
    weights: Callable[..., np.ndarray],
    products: Callable[..., ClassSums | Spectrum] = SPECTRA.of,
) -> Task:
    """x W meets a_c, or x meets a_c M, by the direction: weights(products of the images, A in float64) is W or M."""
    to_visual = choose("task.direction", direction, {TO_VISUAL: True, TO_SEMANTIC: False})
    scaler, vectors = feature_scaler(features_scale), class_scaler(semantics_scale, spec.parts)

    def solve(dataset):
        images = products(dataset, features_scale)
        solution = weights(images, dataset.class_vectors(semantics_scale)[dataset.seen].astype(np.float64))
        return Variables({"weights": jnp.asarray(solution, jnp.float32)}, images.state)

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
