"""What training changes: the state that a compiled call takes and gives back, and that a checkpoint holds."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from demjax.tasks import Task, Variables


class TrainState(NamedTuple):
    """Everything that a step changes or depends on.

    Attributes:
      variables: of the task.
      opt_state: of the optax optimiser.
      calls: int32, finished compiled calls: epochs, or chunks of epochs where rows are streamed.
      key: uint32 key data. Batch orders and random draws are functions of it and of `calls` alone, so that a resumed
        run repeats an uninterrupted one, on any number of devices.
    """

    variables: Variables
    opt_state: Any
    calls: jax.Array
    key: jax.Array


def state_maker(task: Task, optimizer: optax.GradientTransformation) -> Callable[[Any, Any], TrainState]:
    """(seed uint32, statistics of the training set) -> fresh state, compiled once for all seeds."""

    def build(seed, statistics):
        init_key, run_key = jax.random.split(jax.random.key(seed))
        params, state = task.init(init_key)
        variables = Variables(params, {**state, **statistics})
        return TrainState(variables, optimizer.init(params), jnp.int32(0), jax.random.key_data(run_key))

    return jax.jit(build)


def init_state(
    task: Task, optimizer: optax.GradientTransformation, seed: int, statistics: Mapping[str, Any] | None = None
) -> TrainState:
    """Fresh variables and optimiser state; `statistics` are those of `task.statistics(dataset)`."""
    return state_maker(task, optimizer)(np.uint32(seed), dict(statistics or {}))
