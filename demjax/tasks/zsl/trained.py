"""What systems share that are trained image by image on scaled features and class vectors."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from demjax.data import ClassSet, Spec
from demjax.data.batches import examples
from demjax.protocols import GZSL, ZSL
from demjax.search import Score
from demjax.tasks.functional import sum_of_rows
from demjax.tasks.task import Batch, Params, Task, Variables, no_statistics
from demjax.tasks.zsl.inputs import class_scaler, feature_scaler

Side = Callable[[Variables, Any], jax.Array]


def trained(
    name: str,
    spec: Spec,
    features_scale: str,
    semantics_scale: str,
    *,
    score: Score,
    summary: str,
    init: Callable[[Any], Params],
    each: Callable[[Variables, Any, Batch], jax.Array],
    image: Side = lambda variables, x: x,
    classes: Side = lambda variables, table: jnp.asarray(table),
    numbers: Mapping[str, int | float] = {},
    constants: Callable[[ClassSet], Mapping[str, Any]] | None = None,
    statistics: Callable[[ClassSet], Mapping[str, Any]] = no_statistics,
) -> Task:
    """The task of a system that loses something with every image, judged by ZSL and generalised ZSL.

    Args:
      name, score, summary, statistics: as in `Task`.
      spec: gives the sources of semantics.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.
      init: (key) -> params.
      each: (variables, scaled features [b, d], batch) -> what each image loses [b].
      image: (variables, scaled features [q, d]) -> embedded; default: as they are.
      classes: (variables, scaled class vectors [c, a], of NumPy) -> embedded; default: as they are.
      numbers: settings of the loss, constants that members of a population may differ in.
      constants: (dataset) -> the others; default: the scaled class vectors, semantics [c, a], and seen [s].

    Raises:
      UserError: an unknown scale.
    """
    scaler, vectors = feature_scaler(features_scale), class_scaler(semantics_scale, spec.parts)

    def tables(dataset: ClassSet) -> Mapping[str, Any]:
        return {"semantics": dataset.class_vectors(semantics_scale), **seen(dataset)}

    settings = {name: np.float32(number) for name, number in numbers.items()}
    return Task(
        name=name,
        score=score,
        summary=summary,
        protocols=(ZSL, GZSL),
        init=lambda key: Variables(init(key)),
        loss=sum_of_rows(
            lambda variables, batch: each(variables, scaler.scale(variables.state, batch["features"]), batch)
        ),
        batchings={"examples": examples},
        constants=lambda dataset: {**(constants or tables)(dataset), **settings},
        sweepable=tuple(numbers),
        statistics=lambda dataset: {**scaler.statistics(dataset), **statistics(dataset)},
        embed={
            "image": lambda variables, images: image(variables, scaler.scale(variables.state, images["features"])),
            "class": lambda variables, items: classes(variables, vectors(items)),
        },
    )


def seen(dataset: ClassSet) -> dict[str, np.ndarray]:
    """The numbers of the seen classes, ascending."""
    return {"seen": dataset.seen.astype(np.int32)}


def truth(batch: Batch) -> jax.Array:
    """The place of the class of each image [b] among the seen ones."""
    return jnp.searchsorted(batch["seen"], batch["label"])
