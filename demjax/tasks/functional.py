"""Networks and losses as the pure functions that a `Task` is made of."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from demjax.tasks.task import Batch, Params, State, Variables


def network(make: Callable[[nnx.Rngs], nnx.Module]) -> tuple[Callable[[Any], Params], Callable[..., jax.Array]]:
    """A module as (init, f): (key) -> its parameters, and (params, *inputs) -> its output.

    `make` is called where one of both is first used: a module may need sizes that stand in a file.
    """

    @functools.cache
    def graph():
        return nnx.graphdef(nnx.eval_shape(lambda: make(nnx.Rngs(jax.random.key(0)))))

    return (
        lambda key: nnx.state(make(nnx.Rngs(key)), nnx.Param),
        lambda params, *inputs: nnx.merge(graph(), params)(*inputs),
    )


def sum_of_rows(each: Callable[[Variables, Batch], jax.Array]) -> Callable[..., tuple[Any, Any, dict, State]]:
    """The loss of a Task of what each row of the batch loses, (variables, batch) -> [b]; nothing of it is random."""

    def loss(variables, batch, key, axis):
        del key, axis
        weight = batch["weight"]
        return jnp.sum(weight * each(variables, batch)), jnp.sum(weight), {}, variables.state

    return loss
