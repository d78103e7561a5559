"""Class-normalised DEM: DEM's idea with a scaled cosine softmax (Skorokhodov & Elhoseiny, ICLR 2021).

Semantics y_c still become prototypes P(y_c) in the visual space, but they are trained to be told apart, not to be near:

    s_c(x) = gamma^2 cos(x, P(y_c))         loss: cross-entropy of the true class over the *seen* classes
    answer = argmax_c cos(x, P(y_c))

Three things make the network (models/class_norm.py) work for classes it has not seen: class vectors of norm sqrt(a)
(`semantics_scale`), standardisation over the seen classes before the output layer, eq. (9) (`divide_by`), and an output
layer of variance 1 / (h d), eq. (10) (`output_init`). Each has a switch, so that the ladder of the paper is a table.

The published notebook keeps running averages of the statistics for the time after training. Here all seen classes
are in every forward pass anyway, so evaluation takes their statistics from the final parameters: the limit of those
averages, with nothing to settle. The vectors of the seen classes are the state; unseen classes never enter it.

Two more switches, both off by default and not of that paper: `semantics_dropout` hides a share of the class table in
every step, so that prototypes lean on many attributes (Srivastava et al. 2014), and `features_power` keeps a few large
features from deciding the cosine: x becomes sign(x) |x|^p (Perronnin, Sanchez & Mensink, ECCV 2010).

Batch fields: features [b, d], label [b], weight [b]; constants: semantics [c, a], seen [s], scale; state:
seen_semantics [s, a]. Protocols: ZSL and generalised ZSL.
"""

import jax
import jax.numpy as jnp
import numpy as np

from demjax import losses
from demjax.checks import choose, in_range, several_numbers, whole_number
from demjax.data import ClassSet, Spec
from demjax.data.batches import examples
from demjax.models import DIVIDE_BY, OUTPUT_INIT, ClassNormEncoder
from demjax.protocols import GZSL, ZSL
from demjax.search import Score
from demjax.tasks.functional import network
from demjax.tasks.task import Task, Variables
from demjax.tasks.zsl.inputs import class_scaler, dropout, signed_power
from demjax.tasks.zsl.trained import seen, truth


def class_norm(
    spec: Spec,
    *,
    hidden: int = 1024,
    semantics_scale: str = "sqrt",
    divide_by: str = "std",
    output_init: str = "class_norm",
    scale: int | float = 25.0,
    semantics_dropout: int | float = 0.0,
    features_power: int | float = 1.0,
    source_weights: tuple[float, ...] = (),
    members: int = 1,
) -> Task:
    """Builds the task for the widths of a ClassSet.

    Args:
      spec: gives a and d; several sources of semantics stand side by side.
      hidden: units of both hidden layers, >= 1.
      semantics_scale: `none`, `unit` or `sqrt` (norm sqrt(a)).
      divide_by: what standardisation divides by: `std`, `variance` (the notebook), or `none` for no standardisation.
      output_init: `class_norm`, eq. (10), or `default`.
      scale: gamma^2 of the logits, > 0.
      semantics_dropout: share of the class table hidden in a training step, the rest scaled up; in [0, 0.9].
      features_power: p of the features, in (0, 1]; 1 leaves them as they are.
      source_weights: factors on the sources of semantics, in their order; (): all 1.
      members: networks of an ensemble, >= 1: each is trained for itself, and an answer is by the mean of their cosines.

    Raises:
      UserError: a setting out of range or unknown.
    """
    whole_number("task.hidden", hidden, 1)
    whole_number("task.members", members, 1)
    in_range("task.scale", scale, 0, open_low=True)
    in_range("task.semantics_dropout", semantics_dropout, 0, 0.9)
    in_range("task.features_power", features_power, 0, 1, open_low=True)
    vectors, factors = class_scaler(semantics_scale, spec.parts), _factors(spec, source_weights)
    init, prototypes = _network(spec, hidden, divide_by, output_init)

    def embed_images(variables, images):
        powers = signed_power(images["features"], features_power)
        return powers if members == 1 else losses.unit_rows(powers)

    def constants(dataset: ClassSet):
        table = dataset.class_vectors(semantics_scale) * factors
        return {"semantics": table, **seen(dataset), "scale": np.float32(scale)}

    return Task(
        name="class_norm",
        score=Score("cosine" if members == 1 else "dot"),  # unit queries, mean of unit prototypes: the mean cosine
        summary="semantic->visual",
        protocols=(ZSL, GZSL),
        init=lambda key: Variables(init(key) if members == 1 else jax.vmap(init)(jax.random.split(key, members))),
        loss=_loss(prototypes, members, semantics_dropout, features_power),
        batchings={"examples": examples},
        constants=constants,
        sweepable=("scale",),
        statistics=lambda dataset: {"seen_semantics": constants(dataset)["semantics"][dataset.seen]},
        embed={"image": embed_images, "class": _class_side(prototypes, lambda c: vectors(c) * factors, members)},
    )


def _factors(spec: Spec, source_weights: tuple[float, ...]) -> np.ndarray:
    """The factor [1, a] of each column of the class table."""
    widths = list(spec.parts.values()) or [spec.n_semantics]
    weights = (1.0,) * len(widths) if source_weights == () else source_weights
    several_numbers("task.source_weights", weights, len(widths))
    return np.repeat(np.asarray(weights, np.float32), widths)[None]


def _network(spec: Spec, hidden: int, divide_by: str, output_init: str):
    """(init, prototypes): (key) -> params of one member, and (params of one, classes, seen) -> [c, d]."""
    choose("task.divide_by", divide_by, dict.fromkeys(DIVIDE_BY))
    choose("task.output_init", output_init, dict.fromkeys(OUTPUT_INIT))
    widths = spec.n_semantics, hidden, spec.n_features
    return network(lambda rngs: ClassNormEncoder(*widths, divide_by=divide_by, output_init=output_init, rngs=rngs))


def _loss(prototypes, members: int, semantics_dropout: float, features_power: float):
    def of_member(params, batch, key):
        table = dropout(key, batch["semantics"][batch["seen"]], semantics_dropout)
        features = losses.unit_rows(signed_power(batch["features"], features_power))
        logits = batch["scale"] * (features @ losses.unit_rows(prototypes(params, table, table)).T)
        return jnp.sum(batch["weight"] * losses.softmax_cross_entropy(logits, truth(batch)))

    def loss(variables, batch, key, axis):
        del axis
        if members == 1:
            total = of_member(variables.params, batch, key)
        else:  # a sum over members: the gradient of each is as if it were alone
            pairs = variables.params, jax.random.split(key, members)
            total = jax.lax.map(lambda pair: of_member(pair[0], batch, pair[1]), pairs).sum()
        return total, jnp.sum(batch["weight"]), {}, variables.state

    return loss


def _class_side(prototypes, vectors, members: int):
    def embed_classes(variables, classes):
        tables = jnp.asarray(vectors(classes)), jnp.asarray(variables.state["seen_semantics"])
        if members == 1:
            return prototypes(variables.params, *tables)
        units = jax.lax.map(lambda params: losses.unit_rows(prototypes(params, *tables)), variables.params)
        return units.mean(axis=0)

    return embed_classes
