"""Classifiers predicted from descriptions (Ba, Swersky, Fidler & Salakhutdinov, ICCV 2015), on features.

    s_c(x) = g(x) . w(a_c)        g and w networks with one hidden layer

Every seen class is a problem apart: with y_ic = 1 for the class of image i and -1 for the others,

    cross_entropy  1/N sum_i sum_c log(1 + exp(-y_ic s_c(x_i)))
    hinge          1/N sum_i sum_c max(0, margin - y_ic s_c(x_i))

Batch fields: features [b, d], label [b], weight [b]; constants: semantics [c, a], seen [s], margin (hinge).
Protocols: ZSL and generalised ZSL.
"""

import jax
import jax.numpy as jnp

from demjax.checks import choose, in_range, whole_number
from demjax.data import Spec
from demjax.models import SemanticEncoder
from demjax.search import Score
from demjax.tasks.functional import network
from demjax.tasks.task import Task
from demjax.tasks.zsl.trained import trained

FITS = {
    "hinge": lambda signed, batch: jnp.maximum(0.0, batch["margin"] - signed),
    "cross_entropy": lambda signed, batch: jax.nn.softplus(-signed),
}


def ba(
    spec: Spec,
    *,
    hidden: int = 300,
    width: int = 50,
    fit: str = "cross_entropy",
    margin: int | float = 1.0,
    features_scale: str = "unit",
    semantics_scale: str = "sqrt",
) -> Task:
    """Classifiers predicted from descriptions: the weights of class c are a network of a_c.

    Args:
      spec: gives d and a.
      hidden: units of the hidden layer of both networks, >= 1.
      width: of the space where they meet, >= 1.
      fit: `hinge` or `cross_entropy`.
      margin: of the hinge, > 0.
      features_scale: `none`, `unit` or `standard`.
      semantics_scale: `none`, `unit` or `sqrt`.

    Raises:
      UserError: a setting out of range or unknown.
    """
    whole_number("task.hidden", hidden, 1)
    whole_number("task.width", width, 1)
    in_range("task.margin", margin, 0, open_low=True)
    wrong = choose("task.fit", fit, FITS)

    def encoder(n_in):
        return network(lambda rngs: SemanticEncoder(n_in, hidden, width, init="he", output="linear", rngs=rngs))

    (init_g, g), (init_w, w) = encoder(spec.n_features), encoder(spec.n_semantics)

    def init(key):
        key_g, key_w = jax.random.split(key)
        return {"image": init_g(key_g), "class": init_w(key_w)}

    def each(variables, x, batch):
        weights = w(variables.params["class"], batch["semantics"][batch["seen"]])
        scores = g(variables.params["image"], x) @ weights.T
        is_true = batch["seen"][None] == batch["label"][:, None]
        return wrong(jnp.where(is_true, scores, -scores), batch).sum(axis=1)

    return trained(
        "ba",
        spec,
        features_scale,
        semantics_scale,
        score=Score("dot"),
        summary="both",
        init=init,
        each=each,
        image=lambda variables, x: g(variables.params["image"], x),
        classes=lambda variables, table: w(variables.params["class"], jnp.asarray(table)),
        numbers={"margin": margin} if fit == "hinge" else {},
    )
