"""How much a device can hold."""

import os

import jax


def device_bytes(device: jax.Device) -> int:
    """Memory of a device; virtual devices of a CPU share what the machine has."""
    stats = device.memory_stats() if device.process_index == jax.process_index() else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count()
