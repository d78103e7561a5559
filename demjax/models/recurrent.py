"""The recurrences of Reed et al. 2016: the first step has no hidden term, and z multiplies the candidate."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from demjax.models.convolution import uniform


def _linear(n_in: int, n_out: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(n_in, n_out, kernel_init=uniform, bias_init=uniform, rngs=rngs)


def _mean_state(step: Callable, first: Array, inputs: Array) -> Array:
    """The mean of the first state and those that `step` makes of the inputs [t, ...] after it."""
    _, later = jax.lax.scan(step, first, inputs)
    return (first + later.sum(axis=0)) / (1 + len(inputs))


class FixedRNN(nnx.Module):
    """h_1 = ReLU(W x_1 + b),  h_t = ReLU(W x_t + b + U h_{t-1} + c); the mean of all h_t.

    At t = 1 neither U nor c takes part: no standard cell with h_0 = 0.

    Reference: `FixedRNN.lua` of the released code.
    """

    def __init__(self, n_in: int, n_units: int, *, rngs: nnx.Rngs):
        self.inputs, self.hidden = _linear(n_in, n_units, rngs), _linear(n_units, n_units, rngs)

    def __call__(self, x: Float[Array, "b t i"]) -> Float[Array, "b u"]:
        projected = jnp.moveaxis(self.inputs(x), 1, 0)

        def step(h, now):
            h = nnx.relu(now + self.hidden(h))
            return h, h

        return _mean_state(step, nnx.relu(projected[0]), projected[1:])


class FixedGRU(nnx.Module):
    """h_1 = tanh(W x_1 + b), and from then on

        z = sigmoid(W_z x_t + b_z + U_z h + c_z)
        r = sigmoid(W_r x_t + b_r + U_r h + c_r)
        h_t = z tanh(W x_t + b + U (r h) + c) + (1 - z) h

    read out as the mean of all h_t. z multiplies the candidate, the opposite of many libraries.

    Reference: `FixedGRU.lua` of the released code.
    """

    def __init__(self, n_in: int, n_units: int, *, rngs: nnx.Rngs):
        self.inputs = _linear(n_in, 3 * n_units, rngs)  # z, r, candidate
        self.gates = _linear(n_units, 2 * n_units, rngs)
        self.candidate = _linear(n_units, n_units, rngs)

    def __call__(self, x: Float[Array, "b t i"]) -> Float[Array, "b u"]:
        n = self.candidate.out_features
        projected = jnp.moveaxis(self.inputs(x), 1, 0)

        def step(h, now):
            z, r = jnp.split(nnx.sigmoid(now[:, : 2 * n] + self.gates(h)), 2, axis=1)
            h = z * jnp.tanh(now[:, 2 * n :] + self.candidate(r * h)) + (1 - z) * h
            return h, h

        return _mean_state(step, jnp.tanh(projected[0, :, 2 * n :]), projected[1:])
