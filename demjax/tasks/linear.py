"""Closed-form systems: ridge both ways, ESZSL, SAE.

Rows are samples: X [n, d] features, A [s, a] semantics of the seen classes, Y [n, s] one-hot, Z = Y A.

    ridge  V->S  W = (X'X + l I)^-1 X'Z            nearest a_c to x W
           S->V  M = (Z'Z + l I)^-1 Z'X            nearest a_c M to x         (needs class counts and sums only)
    ESZSL        W = (X'X + 10^alpha I)^-1 X'Y A (A'A + 10^gamma I)^-1        argmax x W a_c      Y in {0, 1}
    SAE          Z'Z W + W l X'X = (1 + l) Z'X     W [a, d], its rows at length 1:
                 V->S cos(x W', a_c)               S->V cos(x, a_c W)

All of them are functions of X'X, Z'X and Z'Z. Their eigenvectors are found once for a data set, in float64, and kept: a
sweep over l, or over alpha and gamma, is then an elementwise division and two products a point.

References: ridge: Zhang, Xiang & Gong 2017, their comparison of directions. ESZSL: Romera-Paredes & Torr 2015.
SAE: Kodirov, Xiang & Gong 2017.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from demjax.checks import choose, in_range
from demjax.data.class_set import ClassSet as Dataset
from demjax.data.lazy_rows import read_rows
from demjax.tasks.scaling import feature_scaler
from demjax.tasks.task import Task

DIRECTIONS = ("semantic->visual", "visual->semantic")
BLOCK = 4096  # images in float64 at once
KEPT = 3  # spectra in memory: a selection has one for each fold


class Spectrum(NamedTuple):
    """X'X = vectors diag(values) vectors'; X'Y [d, s], vectors' X'Y and counts [s] of the seen classes; float64."""

    values: np.ndarray
    vectors: np.ndarray
    sums: np.ndarray
    turned: np.ndarray
    counts: np.ndarray


_spectra: dict[tuple[str, ...], Spectrum] = {}


def spectrum(dataset: Dataset, features_scale: str) -> Spectrum:
    """The spectrum of the training images, computed once for a data set and a scale."""
    key = (*dataset.fingerprints.values(), features_scale)
    if key not in _spectra:
        if len(_spectra) == KEPT:
            _spectra.pop(next(iter(_spectra)))
        _spectra[key] = _spectrum(dataset, features_scale)
    return _spectra[key]


def _spectrum(dataset: Dataset, features_scale: str) -> Spectrum:
    gram, sums, counts = _class_sums(dataset, features_scale, gram=True)
    values, vectors = np.linalg.eigh(gram)
    return Spectrum(np.maximum(values, 0.0), vectors, sums, vectors.T @ sums, counts)


def _class_sums(dataset: Dataset, features_scale: str, gram: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X'X [d, d] where wanted, X'Y [d, s] and counts [s], in blocks of images."""
    ids, seen = dataset.splits["trainval"], dataset.seen
    position = np.searchsorted(seen, dataset.labels[ids])
    d = dataset.features.shape[1]
    product, sums = np.zeros((d, d) if gram else 0), np.zeros((d, len(seen)))
    scaler = feature_scaler(dataset, features_scale)
    for start in range(0, len(ids), BLOCK):
        x = np.asarray(scaler(read_rows(dataset.features, ids[start : start + BLOCK])), np.float64)
        if gram:
            product += x.T @ x
        sums += x.T @ np.eye(len(seen))[position[start : start + BLOCK]]
    return product, sums, np.bincount(position, minlength=len(seen)).astype(float)


def _divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, and 0 where b >= 0 is 0 up to rounding.

    There neither images nor classes have anything to say, so any value solves the equation; 0 is the smallest.
    """
    nothing = b <= b.max() * max(b.shape) * 10 * np.finfo(np.float64).eps
    return np.where(nothing, 0.0, a / np.where(nothing, 1.0, b))


def _linear(name: str, dataset: Dataset, table: np.ndarray, scaler, solve, score: str, direction: str) -> Task:
    """x W meets a_c, or x meets a_c M, by the direction; `solve` gives the weights in float64."""
    to_visual = direction == DIRECTIONS[0]
    return Task(
        name=name,
        score=score,
        direction=direction,
        solve=lambda: {"weights": jnp.asarray(solve(), jnp.float32)},
        queries=lambda params, x: scaler(x) if to_visual else scaler(x) @ params["weights"],
        gallery=lambda params, dataset, ids: (
            jnp.asarray(table[ids]) @ params["weights"] if to_visual else jnp.asarray(table[ids])
        ),
    )


def ridge(
    dataset: Dataset,
    *,
    direction: str = "semantic->visual",
    l2: int | float = 1.0,
    features_scale: str = "none",
    semantics_scale: str = "none",
    score: str = "euclidean",
) -> Task:
    """Ridge regression in either direction.

    Args:
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
    choose("task.score", score, dict.fromkeys(("euclidean", "cosine")))
    table, scaler = dataset.class_vectors(semantics_scale), feature_scaler(dataset, features_scale)

    def solve() -> np.ndarray:
        a = table[dataset.seen].astype(np.float64)
        if direction == DIRECTIONS[1]:
            x = spectrum(dataset, features_scale)
            return x.vectors @ ((x.turned @ a) / (x.values + l2)[:, None])
        _, sums, counts = _class_sums(dataset, features_scale, gram=False)
        return np.linalg.solve(a.T @ (counts[:, None] * a) + l2 * np.eye(a.shape[1]), (sums @ a).T)

    return _linear("ridge", dataset, table, scaler, solve, score, direction)


def eszsl(
    dataset: Dataset,
    *,
    alpha: int | float = 3.0,
    gamma: int | float = 0.0,
    features_scale: str = "none",
    semantics_scale: str = "none",
) -> Task:
    """ESZSL, the bilinear score x W a.

    Args:
      alpha, gamma: powers of ten added to X'X and to A'A, from -20 to 20; the usual grid is -3 to 3.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.alpha", alpha, -20, 20)
    in_range("task.gamma", gamma, -20, 20)
    table, scaler = dataset.class_vectors(semantics_scale), feature_scaler(dataset, features_scale)

    def solve() -> np.ndarray:
        x, a = spectrum(dataset, features_scale), table[dataset.seen].astype(np.float64)
        values, vectors = np.linalg.eigh(a.T @ a)
        inner = x.turned @ a @ vectors
        inner /= (x.values + 10.0**alpha)[:, None] * (np.maximum(values, 0.0) + 10.0**gamma)[None]
        return x.vectors @ inner @ vectors.T

    return _linear("eszsl", dataset, table, scaler, solve, "dot", DIRECTIONS[1])


def sae(
    dataset: Dataset,
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
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    in_range("task.l2", l2, 0, open_low=True)
    choose("task.direction", direction, dict.fromkeys(DIRECTIONS))
    table, scaler = dataset.class_vectors(semantics_scale), feature_scaler(dataset, features_scale)

    def solve() -> np.ndarray:
        x, a = spectrum(dataset, features_scale), table[dataset.seen].astype(np.float64)
        values, vectors = np.linalg.eigh(a.T @ (x.counts[:, None] * a))
        inner = (1 + l2) * (vectors.T @ (x.turned @ a).T)
        w = vectors @ _divided(inner, np.maximum(values, 0.0)[:, None] + l2 * x.values[None]) @ x.vectors.T
        w /= np.maximum(np.linalg.norm(w, axis=1, keepdims=True), 1e-300)
        return w if direction == DIRECTIONS[0] else w.T

    return _linear("sae", dataset, table, scaler, solve, "cosine", direction)
