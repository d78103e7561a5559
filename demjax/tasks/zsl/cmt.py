"""CMT, cross-modal transfer (Socher, Ganjoo, Manning & Ng, NeurIPS 2013): images into the semantic space.

    f(x) = W2 tanh(W1 x)        loss  1/N sum_i ||a_{y_i} - f(x_i)||^2        answer = argmin_c ||f(x) - a_c||

Batch fields: features [b, d], label [b], weight [b]; constants: semantics [c, a]. Protocols: ZSL and generalised ZSL.
"""

import jax
import jax.numpy as jnp

from demjax import losses
from demjax.checks import whole_number
from demjax.data import Spec
from demjax.search import Score
from demjax.tasks.task import Task
from demjax.tasks.zsl.trained import trained


def cmt(spec: Spec, *, hidden: int = 200, features_scale: str = "unit", semantics_scale: str = "unit") -> Task:
    """Cross-modal transfer: images into the semantic space by one hidden layer of tanh.

    Args:
      spec: gives d and a.
      hidden: units of the layer, >= 1.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    whole_number("task.hidden", hidden, 1)
    widths = spec.n_features, hidden, spec.n_semantics

    def init(key):
        shapes = zip(jax.random.split(key), widths[:2], widths[1:], strict=True)
        normal = [jax.random.normal(k, (a, b), jnp.float32) / a**0.5 for k, a, b in shapes]
        return {f"layer{i}": weights for i, weights in enumerate(normal)}

    def f(variables, x):
        return jnp.tanh(x @ variables.params["layer0"]) @ variables.params["layer1"]

    def each(variables, x, batch):
        return losses.squared_distance(batch["semantics"][batch["label"]], f(variables, x))

    scales, score = (features_scale, semantics_scale), Score("euclidean")
    return trained("cmt", spec, *scales, score=score, summary="visual->semantic", init=init, each=each, image=f)
