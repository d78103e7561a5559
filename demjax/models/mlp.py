"""The two-layer network that carries class semantics into the visual space."""

from flax import nnx
from jaxtyping import Array, Float

# name -> (kernel initialiser, bias initialiser)
INITIALISERS = {
    "he": (nnx.initializers.he_normal(), nnx.initializers.zeros_init()),
    # The released scripts: truncated normal of stddev 0.1 cut at two sigma and *not* corrected for the cut.
    "released": (nnx.initializers.truncated_normal(0.1), nnx.initializers.constant(0.1)),
}


class SemanticEncoder(nnx.Module):
    """f(y) = ReLU(W2 ReLU(W1 y + b1) + b2), from a semantic vector to the visual space.

    The output is never negative, as CNN features after a ReLU or average pooling are.

    Reference: Zhang, Xiang & Gong 2017, the branch for one kind of semantics (attributes).
    """

    def __init__(self, n_semantics: int, n_hidden: int, n_features: int, *, init: str, rngs: nnx.Rngs):
        kernel, bias = INITIALISERS[init]
        self.hidden = nnx.Linear(n_semantics, n_hidden, kernel_init=kernel, bias_init=bias, rngs=rngs)
        self.visual = nnx.Linear(n_hidden, n_features, kernel_init=kernel, bias_init=bias, rngs=rngs)

    def __call__(self, semantics: Float[Array, "b a"]) -> Float[Array, "b d"]:
        return nnx.relu(self.visual(nnx.relu(self.hidden(semantics))))
