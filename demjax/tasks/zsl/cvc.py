"""CVC, rethinking zero-shot learning as conditional visual classification (Li, Min & Fu, ICCV 2019).

    s_c(x) = s cos(x, f(a_c)) + t        f as DEM's, s learned; cross-entropy over the seen classes

The shift t is the same for all classes and drops out of the softmax; it is left out. The episodes of the paper (batches
with a part of the classes) are here batches against all seen classes.

Batch fields: features [b, d], label [b], weight [b]; constants: semantics [c, a], seen [s].
Protocols: ZSL and generalised ZSL.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from demjax import losses
from demjax.checks import in_range, whole_number
from demjax.data import ClassSet, Spec
from demjax.data.batches import examples
from demjax.models import SemanticEncoder
from demjax.protocols import GZSL, ZSL
from demjax.search import Score
from demjax.tasks.task import Task, Variables
from demjax.tasks.zsl.inputs import class_scaler


def cvc(spec: Spec, *, hidden: int = 1600, semantics_scale: str = "sqrt", scale: int | float = 10.0) -> Task:
    """DEM's network with a cosine softmax of learned scale: the loss changed, nothing else.

    Args:
      spec: gives a and d.
      hidden: units, >= 1.
      semantics_scale: `none`, `unit` or `sqrt`.
      scale: of the cosine at the start, > 0.

    Raises:
      UserError: a setting out of range or unknown.
    """
    whole_number("task.hidden", hidden, 1)
    in_range("task.scale", scale, 0, open_low=True)
    vectors = class_scaler(semantics_scale, spec.parts)

    def encoder(key):
        return SemanticEncoder(spec.n_semantics, hidden, spec.n_features, init="small", rngs=nnx.Rngs(key))

    graph = nnx.graphdef(nnx.eval_shape(lambda: encoder(jax.random.key(0))))

    def f(params, table):
        return nnx.merge(graph, params["encoder"])(table)

    def loss(variables, batch, key, axis):
        del key, axis
        prototypes = f(variables.params, batch["semantics"][batch["seen"]])
        cosine = losses.unit_rows(batch["features"]) @ losses.unit_rows(prototypes).T
        truth = jnp.searchsorted(batch["seen"], batch["label"])
        each = losses.softmax_cross_entropy(variables.params["scale"] * cosine, truth)
        return jnp.sum(batch["weight"] * each), jnp.sum(batch["weight"]), {}, variables.state

    def constants(dataset: ClassSet):
        return {"semantics": dataset.class_vectors(semantics_scale), "seen": dataset.seen.astype(np.int32)}

    return Task(
        name="cvc",
        score=Score("cosine"),
        summary="semantic->visual",
        protocols=(ZSL, GZSL),
        init=lambda key: Variables({"encoder": nnx.state(encoder(key), nnx.Param), "scale": jnp.float32(scale)}),
        loss=loss,
        batchings={"examples": examples},
        constants=constants,
        embed={
            "image": lambda variables, images: images["features"],
            "class": lambda variables, classes: f(variables.params, jnp.asarray(vectors(classes))),
        },
    )
