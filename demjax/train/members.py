"""The members of a population: what they share, what is their own, and one compiled epoch for all of them."""

import copy
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from demjax.checks import UserError, did_you_mean
from demjax.mesh import DATA_AXIS
from demjax.train.config import as_grid, check_config
from demjax.train.epoch import TrainState, run_steps, state_maker
from demjax.train.optimizer import make_optimizer
from demjax.train.run import Run, build, build_task

MEMBERS = "members"
RATE = "optimizer.learning_rate"


class Member(NamedTuple):
    """A seed and the settings in which it differs from the config."""

    seed: int
    setting: dict[str, Any]


class Population(NamedTuple):
    """A run of many members: what they share, [m] numbers by name for what they do not, fresh states by seeds [m]."""

    run: Run
    members: list[Member]
    numbers: dict[str, np.ndarray]
    mesh: Mesh
    fresh: Callable[[Any], TrainState]

    @property
    def padded(self) -> int:
        """Members with copies of the last one, so that every device has as many."""
        return -(-len(self.members) // self.mesh.size) * self.mesh.size


def build_population(config: ConfigDict, devices: Sequence[jax.Device] | None) -> Population:
    """Checks the config and sets up all members.

    Raises:
      UserError: bad config or data, a setting in which members cannot differ, a closed-form task, no members.
    """
    devices = list(devices or jax.local_devices())
    run = build(config, devices[:1])
    if run.task.solve:
        raise UserError(f"population: task {run.task.name} has a closed form and no seeds; use --mode=select")
    grid = as_grid("population.settings", config.population.settings)
    allowed = [RATE, *(f"task.{name}" for name in run.task.numbers)]
    for key in grid:
        if key not in allowed:
            raise UserError(
                f"population.settings has {key!r}, in which members cannot differ: {did_you_mean(key, allowed)}"
            )
    members = [
        Member(seed, dict(zip(grid, combination, strict=True)))
        for combination in itertools.product(*grid.values())
        for seed in range(config.population.seeds)
    ]
    if not members:
        raise UserError(f"population has {config.population.seeds} seeds and settings {grid}: expected a member")
    _check(config, members, run)
    values = {"learning_rate": [m.setting.get(RATE, config.optimizer.learning_rate) for m in members]}
    values |= {n: [m.setting.get(f"task.{n}", config.task[n]) for m in members] for n in run.task.numbers}
    steps = run.steps_per_epoch * config.train.epochs
    in_pass = run.steps_per_epoch // config.train.passes_per_epoch
    settings = config.optimizer.to_dict() | {"learning_rate": 1.0}
    unit = make_optimizer(total_steps=steps, steps_per_pass=in_pass, **settings)
    mesh = Mesh(np.array(devices[: len(members)]).reshape(-1, 1), (MEMBERS, DATA_AXIS))
    numbers = {name: np.array(of_members, np.float32) for name, of_members in values.items()}
    make, own = state_maker(run.task, unit), NamedSharding(mesh, PartitionSpec(MEMBERS))
    fresh = jax.jit(lambda seeds: jax.lax.map(make, seeds), out_shardings=own)
    return Population(run._replace(optimizer=unit), members, numbers, mesh, fresh)


def _check(config: ConfigDict, members: list[Member], run: Run) -> None:
    """Every setting by itself, as a run alone would check it."""
    for member in {json.dumps(m.setting): m for m in members}.values():
        alone = member_config(config, member)
        check_config(alone)
        build_task(alone, run.dataset)


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
            i, own = inputs
            state = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), states)
            state, losses = one((state, own))
            put = jax.tree.map(lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, i, 0), states, state)
            return put, losses

        return jax.lax.scan(step, states, (jnp.arange(len(states.epoch)), numbers))

    return in_turn


def compile_population(population: Population) -> Callable:
    """epoch(states, numbers, rows, tables) -> (states, losses [m, steps]), all members at once."""
    run, mesh = population.run, population.mesh
    plan, steps = run.plan, run_steps(run.task, run.optimizer)

    def local(states, numbers, rows, tables):
        def one(args):
            state, own = args
            orders, keys = plan.schedule(state, plan.batch_size)
            trained, losses = steps((state.params, state.opt_state), orders, keys, rows, tables | own)
            return TrainState(*trained, state.epoch + 1, state.key), losses

        return _map(one, mesh.devices.flat[0].platform)((states, numbers))

    own, shared = PartitionSpec(MEMBERS), PartitionSpec()
    mapped = jax.shard_map(local, mesh=mesh, in_specs=(own, own, shared, shared), out_specs=own)

    def epoch(states, numbers, rows, tables):
        with jax.default_matmul_precision(plan.precision):
            return mapped(states, numbers, rows, tables)

    return jax.jit(epoch, donate_argnums=0)


def initial_states(population: Population) -> TrainState:
    """The states of all members, stacked, on their devices."""
    seeds = np.array([m.seed for m in with_padding(population.members, population.padded)], np.uint32)
    return population.fresh(seeds)


def with_padding(items: Sequence, n: int) -> list:
    """`items` and copies of the last one, n in all."""
    return [*items, *[items[-1]] * (n - len(items))]


def member_params(population: Population, states: TrainState) -> Iterator[tuple[int, Any]]:
    """(number, params) of each member, one after the other on one device."""
    device = population.mesh.devices.flat[0]
    for i in range(len(population.members)):
        yield i, jax.device_put(jax.tree.map(lambda x, i=i: np.asarray(x[i]), states.params), device)
