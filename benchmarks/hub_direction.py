"""N_1 skewness of ridge regression both ways on CUB, beside the numbers of the DEM paper.

    python benchmarks/hub_direction.py --dir FOLDER            FOLDER holds vgg19.mat and att_splits.mat; two minutes

    V -> S   W = (X'X + l I)^-1 X'Z, nearest attribute vector to x W         queries are projected, and shrink
    S -> V   M = (Z'Z + l I)^-1 Z'X, nearest projected prototype a M to x    prototypes are projected

Euclidean distance both times. For each direction l (1e-3 to 1e6) and the scale of the features (as they are, or rows at
length 1) are chosen by per-class accuracy on the 50 validation classes; no test image takes part. N_1 is then counted
over the unseen test images, among the 50 unseen classes and among all 200.
"""

from typing import Any

import measure
import numpy as np

LAMBDAS = tuple(10.0**p for p in range(-3, 7))
PAPER = {"V -> S": 8.2697, "S -> V": 2.2594}


class Ridge:
    """All ridges from one side to the other by one eigendecomposition."""

    def __init__(self, source: np.ndarray, target: np.ndarray):
        source, target = source.astype(np.float64), target.astype(np.float64)
        self._values, self._vectors = np.linalg.eigh(source.T @ source)
        self._product = self._vectors.T @ (source.T @ target)

    def weights(self, penalty: float) -> np.ndarray:
        return self._vectors @ (self._product / (np.maximum(self._values, 0) + penalty)[:, None])


def sides(direction: str, ridge: Ridge, penalty: float, images: np.ndarray, classes: np.ndarray) -> tuple:
    """(queries, gallery) of the search."""
    if direction == "V -> S":
        images = images @ ridge.weights(penalty)
    else:
        classes = classes @ ridge.weights(penalty)
    return images.astype(np.float32), classes.astype(np.float32)


def accuracy(ids: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([np.mean(ids[labels == c] == c) for c in np.unique(labels)]))


def fit(direction: str, images: np.ndarray, classes: np.ndarray) -> Ridge:
    return Ridge(images, classes) if direction == "V -> S" else Ridge(classes, images)


def main(given: Any) -> None:
    import jax

    from demjax.data import load
    from demjax.hubness import k_occurrence, k_skewness
    from demjax.search import nearest

    print(measure.machine(jax, np))
    data = load("CUB", dir=given.dir, features="vgg19")
    labels, semantics, splits = np.asarray(data.labels), np.asarray(data.semantics, np.float64), data.splits
    raw = np.asarray(data.features, np.float64)
    scaled = {"as they are": raw, "rows at length 1": raw / np.linalg.norm(raw, axis=1, keepdims=True)}

    def answers(direction: str, x: np.ndarray, ridge: Ridge, penalty: float, split: str, names: np.ndarray) -> Any:
        queries, gallery = sides(direction, ridge, penalty, x[splits[split]], semantics[names])
        return np.asarray(nearest(queries, gallery, 1).ids)

    result = {}
    for direction, paper in PAPER.items():
        tried = []
        held_out = np.unique(labels[splits["val"]])
        for scale, x in scaled.items():
            ridge = fit(direction, x[splits["train"]], semantics[labels[splits["train"]]])
            for penalty in LAMBDAS:
                ids = answers(direction, x, ridge, penalty, "val", held_out)
                tried.append((accuracy(held_out[ids[:, 0]], labels[splits["val"]]), scale, penalty))
        best, scale, penalty = max(tried)
        x = scaled[scale]
        ridge = fit(direction, x[splits["trainval"]], semantics[labels[splits["trainval"]]])
        row = {"features": scale, "lambda": penalty, "validation accuracy": best}
        for name, names in (("unseen", data.unseen), ("all", np.arange(len(semantics)))):
            ids = answers(direction, x, ridge, penalty, "test_unseen", names)
            row[f"skewness {name}"] = k_skewness(np.asarray(k_occurrence(ids, len(names))))
            row[f"accuracy {name}"] = accuracy(names[ids[:, 0]], labels[splits["test_unseen"]])
        result[direction] = row
        print(
            f"{direction}: N_1 skewness {row['skewness unseen']:.2f} among unseen, {row['skewness all']:.2f} among all "
            f"(paper {paper}); T1 {100 * row['accuracy unseen']:.1f}; features {scale}, lambda {penalty:g}",
            flush=True,
        )
    measure.write(given.json, result)


if __name__ == "__main__":
    main(measure.options(__doc__, dir="data/cub"))
