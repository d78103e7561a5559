"""CVC, rethinking zero-shot learning as conditional visual classification (Li, Min & Fu, ICCV 2019).

    s_c(x) = s cos(x, f(a_c)) + t        f as DEM's, s learned; cross-entropy over the seen classes

The shift t is the same for all classes and drops out of the softmax; it is left out. The episodes of the paper (batches
with a part of the classes) are here batches against all seen classes.

Batch fields: features [b, d], label [b], weight [b]; constants: semantics [c, a], seen [s].
Protocols: ZSL and generalised ZSL.
"""

import jax.numpy as jnp

from demjax import losses
from demjax.checks import in_range, whole_number
from demjax.data import Spec
from demjax.models import SemanticEncoder
from demjax.search import Score
from demjax.tasks.functional import network
from demjax.tasks.task import Task
from demjax.tasks.zsl.trained import trained, truth


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
    widths = spec.n_semantics, hidden, spec.n_features
    init, f = network(lambda rngs: SemanticEncoder(*widths, init="small", rngs=rngs))

    def each(variables, x, batch):
        prototypes = f(variables.params["encoder"], batch["semantics"][batch["seen"]])
        cosine = losses.unit_rows(x) @ losses.unit_rows(prototypes).T
        return losses.softmax_cross_entropy(variables.params["scale"] * cosine, truth(batch))

    return trained(
        "cvc",
        spec,
        "none",
        semantics_scale,
        score=Score("cosine"),
        summary="semantic->visual",
        init=lambda key: {"encoder": init(key), "scale": jnp.float32(scale)},
        each=each,
        classes=lambda variables, table: f(variables.params["encoder"], jnp.asarray(table)),
    )
