"""Peak memory of a sharded search: 1,000,000 x 200,000, d 128, k 10 on 8 virtual devices.

    python benchmarks/memory.py              about eight minutes on two cores; virtual devices show memory, not speed

The inputs are .npy files, mapped: what the kernel keeps of them in memory is counted apart (RssFile). The inputs as
arrays in memory are tried with --in-memory. Peak resident memory beyond imports and inputs stands last.
"""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("NPROC", "32")  # eight virtual devices on few cores want threads enough

import measure
import numpy as np


def resident(kind: str) -> int:
    """Bytes of RssAnon (own memory) or RssFile (mapped files) now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return 1024 * int(line.split()[1])
    sys.exit("needs Linux")


class Watch(threading.Thread):
    """The largest RssAnon since it was started."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.going = 0, True

    def run(self) -> None:
        while self.going:
            self.peak = max(self.peak, resident("RssAnon"))
            time.sleep(0.02)


def make(path: Path, rows: int, d: int, seed: int) -> None:
    """A .npy file of normal numbers, written in pieces."""
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, d))
    rng = np.random.default_rng(seed)
    for start in range(0, rows, 50_000):
        out[start : start + 50_000] = rng.standard_normal((min(50_000, rows - start), d), np.float32)
    out.flush()


def main(given: Any) -> None:
    import jax

    jax.config.update("jax_num_cpu_devices", given.devices)
    from demjax.data import open_npy
    from demjax.hubness import k_occurrence, measures
    from demjax.mesh import data_mesh
    from demjax.search import nearest

    print(measure.machine(jax, np))
    with tempfile.TemporaryDirectory() as folder:
        for name, rows, seed in (("q", given.queries, 0), ("g", given.gallery, 1)):
            make(Path(folder) / f"{name}.npy", rows, given.d, seed)
        queries, gallery = (open_npy(Path(folder) / f"{n}.npy") for n in "qg")
        if given.in_memory:
            queries, gallery = np.array(queries), np.array(gallery)
        before, watch, begun = resident("RssAnon"), Watch(), time.perf_counter()
        watch.start()
        found = nearest(queries, gallery, given.k, mesh=data_mesh(), precision=given.precision, progress=True)
        counts = k_occurrence(found.ids, given.gallery)
        told = measures(np.asarray(counts), given.k, given.queries)
        watch.going = False
        watch.join()
    print({name: round(v, 4) for name, v in told.items()})
    print(f"{time.perf_counter() - begun:.0f} s on {jax.device_count()} devices")
    beyond = watch.peak - before
    inputs = "in memory, counted apart" if given.in_memory else "mapped"
    print(f"peak {beyond / 2**30:.2f} GiB beyond the inputs ({inputs}; aim 2 GiB)")


if __name__ == "__main__":
    main(
        measure.options(
            __doc__, queries=1_000_000, gallery=200_000, d=128, k=10, devices=8, precision="highest", in_memory=0
        )
    )
