"""The members of a population: what they share, in what they differ, and one compiled epoch for all of them."""

import copy
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from demjax.checks import UserError, did_you_mean
from demjax.mesh import DATA_AXIS
from demjax.tasks import Variables
from demjax.train.config import check_config
from demjax.train.data_cache import DataCache
from demjax.train.engine.epoch import run_steps
from demjax.train.engine.state import TrainState, state_maker
from demjax.train.experiment import Experiment, build
from demjax.train.parts import task_of
from demjax.train.sweep.grid import as_grid

MEMBERS = "members"
RATE = "optimizer.learning_rate"


class Member(NamedTuple):
    """A seed and the settings in which it differs from the config."""

    seed: int
    setting: dict[str, Any]


class Population(NamedTuple):
    """A run of many members.

    Attributes:
      experiment: what they share.
      members: in what they differ.
      numbers: [m] by name: constants of the loss, and the learning rate.
      mesh: the devices, which share the members out.
      optimizer: of learning rate 1; the rate of a member scales its updates.
      fresh: seeds [m] -> their states.
    """

    experiment: Experiment
    members: list[Member]
    numbers: dict[str, np.ndarray]
    mesh: Mesh
    optimizer: optax.GradientTransformation
    fresh: Callable[[Any], TrainState]

    @property
    def padded(self) -> int:
        """Members with copies of the last one, so that every device has as many."""
        return -(-len(self.members) // self.mesh.size) * self.mesh.size

    def twin(self) -> "Population":
        """The same members as if only trainval existed."""
        return assemble_population(self.experiment.twin, list(self.mesh.devices.flat))


def build_population(
    config: ConfigDict, devices: Sequence[jax.Device] | None, cache: DataCache | None = None
) -> Population:
    """Checks the config, loads the data and sets up all members.

    Raises:
      UserError: bad config or data, a setting in which members cannot differ, a closed-form task, no members.
    """
    devices = list(devices or jax.local_devices())
    return assemble_population(build(config, devices[:1], cache), devices)


def assemble_population(experiment: Experiment, devices: Sequence[jax.Device]) -> Population:
    """The members of an experiment that is built.

    Raises:
      UserError: as `build_population`.
    """
    config, task = experiment.config, experiment.task
    if task.solve:
        raise UserError(f"population: task {task.name} has a closed form and no seeds; use --mode=select")
    if experiment.frozen(0):
        raise UserError(f"population: task {task.name} has parameters that begin to train later; train plain runs")
    if (kind := experiment.placement.kind) != "replicated":
        raise UserError(f"population.seeds with rows that are {kind}: every member reads all of them; train plain runs")
    members = _members(config, task.name, [RATE, *(f"task.{name}" for name in task.sweepable)])
    _check(config, members, experiment)
    values = {"learning_rate": [m.setting.get(RATE, config.optimizer.learning_rate) for m in members]}
    values |= {n: [m.setting.get(f"task.{n}", config.task[n]) for m in members] for n in task.sweepable}
    numbers = {name: np.array(of_members, np.float32) for name, of_members in values.items()}
    optimizer = experiment.optimizer(0, learning_rate=1.0)
    mesh = Mesh(np.array(devices[: len(members)]).reshape(-1, 1), (MEMBERS, DATA_AXIS))
    make, of_member = state_maker(task, optimizer), NamedSharding(mesh, PartitionSpec(MEMBERS))

    def fresh(seeds: Any, statistics: Any) -> TrainState:
        return jax.lax.map(lambda seed: make(seed, statistics), seeds)

    states = jax.jit(fresh, out_shardings=of_member)
    return Population(experiment, members, numbers, mesh, optimizer, lambda seeds: states(seeds, experiment.statistics))


def _members(config: ConfigDict, task: str, allowed: list[str]) -> list[Member]:
    grid = as_grid("population.settings", config.population.settings)
    for key in grid:
        if key not in allowed:
            raise UserError(
                f"population.settings has {key!r}, in which members of {task} cannot differ: "
                f"{did_you_mean(key, allowed)}"
            )
    members = [
        Member(seed, dict(zip(grid, combination, strict=True)))
        for combination in itertools.product(*grid.values())
        for seed in range(config.population.seeds)
    ]
    if not members:
        raise UserError(f"population has {config.population.seeds} seeds and settings {grid}: expected a member")
    return members


def _check(config: ConfigDict, members: list[Member], experiment: Experiment) -> None:
    """Every setting by itself, as a run alone would check it."""
    for member in {json.dumps(m.setting): m for m in members}.values():
        alone = member_config(config, member)
        check_config(alone)
        task_of(alone, experiment.dataset.spec)


def member_config(config: ConfigDict, member: Member) -> ConfigDict:
    """The config of this member as a run alone."""
    alone = copy.deepcopy(config)
    try:
        alone.update_from_flattened_dict(member.setting)
    except TypeError as error:  # ml_collections: a value of another type than the default
        raise UserError(f"population.settings: {member.setting} does not fit: {error}") from None
    alone.seed = member.seed
    alone.population.update(seeds=0, settings=())
    return alone


def _map(one: Callable, platform: str) -> Callable:
    """`one` for all members: together on an accelerator; on a CPU in turn, each written over its old state."""
    if platform != "cpu":
        return jax.vmap(one)

    def in_turn(args):
        states, numbers = args

        def step(states, inputs):
            i, of_member = inputs
            state = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), states)
            state, losses = one((state, of_member))
            put = jax.tree.map(lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, i, 0), states, state)
            return put, losses

        return jax.lax.scan(step, states, (jnp.arange(len(states.calls)), numbers))

    return in_turn


def compile_population(population: Population) -> Callable:
    """epoch(states, numbers, rows, constants) -> (states, losses [m, steps]), all members at once."""
    experiment, mesh = population.experiment, population.mesh
    plan, steps = experiment.plan, run_steps(experiment.task, population.optimizer)

    def local(states, numbers, rows, constants):
        def one(args):
            state, of_member = args
            orders, keys = plan.schedule(state, plan.batch_size)
            trained, losses = steps((state.variables, state.opt_state), orders, keys, rows, constants | of_member)
            return TrainState(*trained, state.calls + jnp.int32(1), state.key), losses

        return _map(one, mesh.devices.flat[0].platform)((states, numbers))

    by_member, everywhere = PartitionSpec(MEMBERS), PartitionSpec()
    in_specs = (by_member, by_member, everywhere, everywhere)
    mapped = jax.shard_map(local, mesh=mesh, in_specs=in_specs, out_specs=by_member)

    def epoch(states, numbers, rows, constants):
        with jax.default_matmul_precision(plan.precision):
            return mapped(states, numbers, rows, constants)

    return jax.jit(epoch, donate_argnums=0)


def initial_states(population: Population) -> TrainState:
    """The states of all members, stacked, on their devices."""
    seeds = np.array([m.seed for m in with_padding(population.members, population.padded)], np.uint32)
    return population.fresh(seeds)


def with_padding(items: Sequence, n: int) -> list:
    """`items` and copies of the last one, n in all."""
    return [*items, *[items[-1]] * (n - len(items))]


def member_variables(population: Population, states: TrainState) -> Iterator[tuple[int, Variables]]:
    """(number, variables) of each member, one after the other on one device."""
    device = population.mesh.devices.flat[0]
    for i in range(len(population.members)):
        yield i, jax.device_put(jax.tree.map(lambda x, i=i: np.asarray(x[i]), states.variables), device)
