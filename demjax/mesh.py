"""Devices as a one-dimensional mesh with the axis `data`, and where arrays live on it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

DATA_AXIS = "data"


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over `devices` (default: all, of all processes) whose single axis `data` splits the batch."""
    devices = list(devices or jax.devices())
    # Auto axes: under the default Explicit type a gather on a sharded axis raises.
    return jax.make_mesh((len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def local_mesh(mesh: Mesh) -> Mesh:
    """The devices of a mesh that belong to this process."""
    return data_mesh([d for d in mesh.devices.flat if d.process_index == jax.process_index()])


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copies a tree of arrays to every device of the mesh; every process has the same arrays."""
    return place(tree, replicated(mesh))


def place(tree: Any, sharding: Sharding) -> Any:
    """A tree of arrays, the same in every process, on devices; each process copies what its own devices hold only."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return jax.device_put(x, sharding)
        x = x if isinstance(x, np.ndarray) else np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: np.asarray(x[index]))

    return jax.tree.map(put, tree)


def spread(rows: np.ndarray, params: Any) -> jax.Array:
    """Rows [n, ...] shared out among the devices that hold a copy of `params` each, the last one repeated to fill up.

    What a jitted function of both makes of a row is then made on one device, not the same on all.
    """
    sharding = next((x.sharding for x in jax.tree.leaves(params) if isinstance(x, jax.Array)), None)
    if not isinstance(sharding, NamedSharding) or not sharding.is_fully_replicated or sharding.mesh.size == 1:
        return jnp.asarray(rows)
    if missing := -len(rows) % sharding.mesh.size:
        rows = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
    return jax.device_put(rows, NamedSharding(sharding.mesh, PartitionSpec(sharding.mesh.axis_names)))


def localise(tree: Any) -> Any:
    """Arrays that span processes, as arrays of this process alone; others as they are."""

    def fetch(x: Any) -> Any:
        if not isinstance(x, jax.Array) or x.is_fully_addressable:
            return x
        if not x.is_fully_replicated:
            mesh: Any = getattr(x.sharding, "mesh", None)
            x = jax.device_put(x, replicated(mesh))
        return jnp.asarray(np.asarray(x))

    return jax.tree.map(fetch, tree)
