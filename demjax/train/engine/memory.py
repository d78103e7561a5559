"""How much a device can hold."""

import os

import jax

from demjax import distributed

_agreed: dict[int, int] = {}  # by the number of processes


def device_bytes() -> int:
    """Memory of a device of this process; virtual devices of a CPU share what the machine has. After `agree`, the least
    of any process."""
    if jax.process_count() in _agreed:
        return _agreed[jax.process_count()]
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count()


def agree() -> None:
    """All processes decide by the same number; all must call it."""
    if jax.process_count() > 1:
        _agreed[jax.process_count()] = distributed.smallest(device_bytes() >> 20) << 20
