"""Devices as a one-dimensional mesh with the axis `data`, and where arrays live on it."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA_AXIS = "data"


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over `devices` (default: all local ones) whose single axis `data` splits the batch."""
    devices = list(devices or jax.local_devices())
    # Auto axes: under the default Explicit type a gather on a sharded axis raises.
    return jax.make_mesh((len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copies a tree of arrays to every device of the mesh."""
    return jax.device_put(tree, replicated(mesh))
