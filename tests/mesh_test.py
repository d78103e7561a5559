import jax
import numpy as np
import pytest

from demjax.mesh import DATA_AXIS, data_mesh, replicate


def test_all_local_devices_by_default():
    mesh = data_mesh()
    assert mesh.axis_names == (DATA_AXIS,) and mesh.size == 8


@pytest.mark.parametrize("n", [1, 3])
def test_replicated_means_everywhere_and_whole(n):
    array = replicate({"x": np.arange(6.0)}, data_mesh(jax.devices()[:n]))["x"]
    assert len(array.addressable_shards) == n
    for shard in array.addressable_shards:
        np.testing.assert_array_equal(shard.data, np.arange(6.0))
