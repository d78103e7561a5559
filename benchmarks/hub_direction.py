"""N_1 skewness of ridge regression both ways on CUB, beside the numbers of the DEM paper.

    python benchmarks/hub_direction.py --dir FOLDER            FOLDER holds vgg19.mat and att_splits.mat; two minutes

Visual to semantic projects the queries, which shrink; semantic to visual projects the prototypes (tasks/zsl/ridge.py).
Euclidean distance both times. For each direction lambda (1e-3 to 1e6) and the scale of the features (as they are, or
rows at length 1) are chosen by T1 on the 50 validation classes; no test image takes part. N_1 is then counted over
the unseen test images, among the 50 unseen classes and among all 200.
"""

import dataclasses
from itertools import product
from typing import Any

import measure
import numpy as np

LAMBDAS = tuple(10.0**p for p in range(-3, 7))
PAPER = {"visual->semantic": 8.2697, "semantic->visual": 2.2594}


def main(given: Any) -> None:
    import jax
    from demjax.tasks.zsl.ridge import ridge

    from demjax.data import load
    from demjax.hubness import k_occurrence, k_skewness
    from demjax.protocols import ZSL
    from demjax.search import nearest
    from demjax.train.evaluate import evaluate

    def t1(task: Any, of: Any) -> float:
        return evaluate(dataclasses.replace(task, protocols=(ZSL,)), task.solve(of), of).metrics["zsl/top1"]

    print(measure.machine(jax, np))
    data = load("CUB", dir=given.dir, features="vgg19")
    view, test, result = data.validation_view(), data.splits["test_unseen"], {}
    for direction, paper in PAPER.items():
        tried = {}
        for scale, l2 in product(("none", "unit"), LAMBDAS):
            tried[scale, l2] = t1(ridge(view.spec, direction=direction, l2=l2, features_scale=scale), view)
        scale, l2 = max(tried, key=tried.__getitem__)
        task = ridge(data.spec, direction=direction, l2=l2, features_scale=scale)
        variables = task.solve(data)
        queries, gallery = (
            np.asarray(task.embed[side](variables, data.items(side, ids, task.columns(side))))
            for side, ids in (("image", test), ("class", np.arange(len(data.classes))))
        )
        row = {"features": scale, "lambda": l2, "validation T1": tried[scale, l2], "T1": t1(task, data)}
        for name, ids in (("unseen", data.unseen), ("all", np.arange(len(data.classes)))):
            found = nearest(queries, gallery[ids], 1).ids
            row[f"skewness {name}"] = k_skewness(np.asarray(k_occurrence(found, len(ids))))
        result[direction] = row
        print(
            f"{direction}: N_1 skewness {row['skewness unseen']:.2f} among unseen, {row['skewness all']:.2f} among all "
            f"(paper {paper}); T1 {100 * row['T1']:.1f}; features {scale}, lambda {l2:g}",
            flush=True,
        )
    measure.write(given.json, result)


if __name__ == "__main__":
    main(measure.options(__doc__, dir="data/cub"))
