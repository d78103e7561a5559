"""DAP and IAP, direct and indirect attribute prediction (Lampert, Nickisch & Harmeling, CVPR 2009).

    DAP    p(a_m | x) = sigmoid(x V + b)
    IAP    p(a_m | x) = sum_s p_s(x) B_sm,  p = softmax(x V + b) over the seen classes
    both   argmax_c sum_m log p(a_m = B_cm | x) - log p(a_m = B_cm)

B are the attributes as yes or no: above the mean of the attribute over the seen classes. p(a_m) is the share of seen
classes that have it. Probabilities stay in [1e-6, 1 - 1e-6], so that one certain attribute cannot decide alone.

Batch fields: features [b, d], label [b], weight [b]; constants: binary [c, a] (DAP), seen [s] (IAP); state:
attribute_mean [a], seen_has [s, a]. Protocols: ZSL and generalised ZSL.
"""

import jax
import jax.numpy as jnp
import numpy as np

from demjax.data import ClassSet, Spec
from demjax.search import Score
from demjax.tasks.task import Task, Variables
from demjax.tasks.zsl.seen_softmax import cross_entropy, logits, probabilities, undecided
from demjax.tasks.zsl.trained import seen, trained

LEAST = 1e-6


def iap(spec: Spec, *, features_scale: str = "unit") -> Task:
    """Indirect attribute prediction: attributes by way of the seen classes.

    Args:
      spec: gives d and the number of seen classes.
      features_scale: `none`, `unit` or `standard`.

    Raises:
      UserError: an unknown scale.
    """
    init = undecided(spec.n_features, spec.n_seen)

    def p(variables, x):
        return probabilities(variables, x) @ variables.state["seen_has"]

    return _of_attributes("iap", spec, features_scale, p, init=init, each=cross_entropy, constants=seen)


def dap(spec: Spec, *, features_scale: str = "unit") -> Task:
    """Direct attribute prediction: one classifier for each attribute. Arguments and errors as for `iap`."""
    init = undecided(spec.n_features, spec.n_semantics)

    def p(variables, x):
        return jax.nn.sigmoid(logits(variables, x))

    def each(variables, x, batch):
        z = logits(variables, x)
        return jax.nn.softplus(jnp.where(batch["binary"][batch["label"]], -z, z)).sum(axis=1)

    def constants(dataset: ClassSet):
        table = dataset.class_vectors("none")
        return {"binary": table > table[dataset.seen].mean(axis=0)}

    return _of_attributes("dap", spec, features_scale, p, init=init, each=each, constants=constants)


def _of_attributes(name: str, spec: Spec, features_scale: str, p, **training) -> Task:
    """The class of an image by p(a_m | x) [q, a], (variables, scaled features) -> p."""
    return trained(
        name,
        spec,
        features_scale,
        "none",
        score=Score("dot"),
        summary="visual->semantic",
        image=lambda variables, x: _evidence(p(variables, x)),
        classes=_expected,
        statistics=_attributes_of_seen,
        **training,
    )


def _attributes_of_seen(dataset: ClassSet) -> dict[str, np.ndarray]:
    """The mean of each attribute over the seen classes, and which of them have more of it (1 or 0)."""
    seen = dataset.class_vectors("none")[dataset.seen]
    mean = seen.mean(axis=0)
    return {"attribute_mean": mean, "seen_has": (seen > mean).astype(np.float32)}


def _evidence(probability: jax.Array) -> jax.Array:
    """[q, 2 a + 1]: what every answer of every attribute is worth, and a one for the prior."""
    p = jnp.clip(probability, LEAST, 1 - LEAST)
    return jnp.concatenate([jnp.log(p), jnp.log1p(-p), jnp.ones_like(p[:, :1])], axis=1)


def _expected(variables: Variables, table: np.ndarray) -> jax.Array:
    """[c, 2 a + 1]: which answers each class expects, and minus the logarithm of their prior."""
    mean, seen_has = (np.asarray(variables.state[name]) for name in ("attribute_mean", "seen_has"))
    binary = table > mean
    prior = np.clip(seen_has.astype(np.float64).mean(axis=0), LEAST, 1 - LEAST)
    of_class = np.where(binary, np.log(prior), np.log1p(-prior)).sum(axis=1)
    return jnp.asarray(np.concatenate([binary, ~binary, -of_class[:, None]], axis=1), jnp.float32)
