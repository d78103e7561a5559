"""How fast rows come to the device: streamed from a mapped file against a raw copy of the same bytes, in one run.

    python benchmarks/feed.py                        CPU, under a minute; a file of 1 GiB in --folder
    python benchmarks/feed.py --device gpu --gib 8

Streamed: chunks of random blocks, as a run of `train.placement=streamed` has them, each taken from the feed as soon as
it is there. Raw: the same file from front to back in pieces of the same size, copied once into aligned memory that is
put on the device; and `jnp.array` of a slice of the map, as people write it. All read a file in the page cache.

And with rows that stay on the device: the share of a step of DEM, 100 rows of 2,048 features, that picking its rows
takes.
"""

import tempfile
from pathlib import Path
from typing import Any

import measure
import numpy as np

WIDTH, STEPS = 2048, 200


class Streams:
    """Both ways through the same file; a call reads all chunks once."""

    def __init__(self, file: Path, device: str, chunk_mib: int):
        import jax

        from demjax.data import Indexed, Rows
        from demjax.mesh import data_mesh
        from demjax.train.engine.feed import Feed
        from demjax.train.engine.placement import choose_placement

        self._jax, self._mapped = jax, np.load(file, mmap_mode="r")
        n, row_bytes = len(self._mapped), WIDTH * 4
        columns = {"features": Indexed(self._mapped, np.arange(n)), "weight": np.append(np.ones(n, np.float32), 0)}
        rows, fields, mesh = Rows(columns, streams=True), ("features",), data_mesh(jax.devices(device)[:1])
        self._placement = choose_placement("streamed", rows, fields, mesh, (chunk_mib << 20) // row_bytes)
        self._feed = Feed(self._placement, rows, fields, mesh, jax.random.key_data(jax.random.key(0)))
        self._device, self._calls = jax.devices(device)[0], 0
        self.n_bytes = n * row_bytes

    def streamed(self) -> None:
        for _ in range(self._placement.chunks):
            self._jax.block_until_ready(self._feed(self._calls))
            self._calls += 1

    def raw(self) -> None:
        for start in range(0, len(self._mapped), self._placement.call_rows):
            part = self._mapped[start : start + self._placement.call_rows]
            room = np.empty(part.nbytes + 64, np.uint8)
            room = room[-room.ctypes.data % 64 :][: part.nbytes].view(np.float32).reshape(part.shape)
            np.copyto(room, part)
            self._jax.block_until_ready(self._jax.device_put(room, self._device))

    def plain(self) -> None:
        import jax.numpy as jnp

        step = self._placement.call_rows
        with self._jax.default_device(self._device):
            for start in range(0, len(self._mapped), step):
                self._jax.block_until_ready(jnp.array(self._mapped[start : start + step]))


class Resident:
    """An epoch of DEM, and one that picks the same rows and does nothing else."""

    def __init__(self, device: str):
        import jax

        from demjax.data import load
        from demjax.data.batches import examples
        from demjax.mesh import data_mesh, replicate
        from demjax.tasks import TASKS
        from demjax.train.engine.epoch import Plan, compile_epoch
        from demjax.train.engine.optimizer import make_optimizer
        from demjax.train.engine.placement import place_rows, take
        from demjax.train.engine.state import init_state

        planted = dict(n_classes=60, n_unseen=10, n_attributes=312, n_features=WIDTH, images_per_class=180)
        data = load("planted", planted=planted)
        task = TASKS["dem"](data.spec, hidden=700)
        optimizer = make_optimizer(name="adam", learning_rate=1e-4, total_steps=STEPS, steps_per_pass=STEPS)
        mesh, rows = data_mesh(jax.devices(device)[:1]), examples(data)
        plan = Plan(rows.n_rows, 100)
        self._jax, self._state = jax, replicate(init_state(task, optimizer, 0), mesh)
        self._rows = place_rows(rows, task.fields, mesh)
        self._constants = replicate(dict(task.constants(data)), mesh)
        self._epoch = compile_epoch(task, optimizer, mesh, plan)

        @jax.jit
        def pick(state: Any, rows: Any) -> Any:
            orders, _ = plan.schedule(state, plan.batch_size)

            def step(held: Any, ids: Any) -> Any:
                del held  # the batch is written, as the step of a run reads it
                return take(rows, ids), 0.0

            return jax.lax.scan(step, take(rows, orders[0]), orders)[0]

        self._pick, self.n_steps = pick, plan.steps

    def epoch(self) -> None:
        self._state, losses = self._epoch(self._state, self._rows, self._constants)
        self._jax.block_until_ready(losses)

    def pick(self) -> None:
        self._jax.block_until_ready(self._pick(self._state, self._rows))


def main(given: Any) -> None:
    import jax

    print(measure.machine(jax, np))
    with tempfile.TemporaryDirectory(dir=given.folder or None) as folder:
        file, n = Path(folder) / "features.npy", (given.gib << 30) // (WIDTH * 4)
        array = np.lib.format.open_memmap(file, "w+", np.float32, (n, WIDTH))
        for start in range(0, n, 4096):
            array[start : start + 4096] = np.random.default_rng(start).random((min(4096, n - start), WIDTH), np.float32)
        del array
        ways = Streams(file, given.device, given.chunk_mib)
        seconds = measure.timed(
            {"streamed": ways.streamed, "raw copy": ways.raw, "jnp.array": ways.plain}, given.rounds
        )
        print(f"{ways.n_bytes / 2**30:.2f} GiB in chunks of {given.chunk_mib} MiB; streamed "
              f"{ways.n_bytes / measure.statistics.median(seconds['streamed']) / 1e9:.2f} GB/s")  # fmt: skip
        measure.table(seconds, "streamed")
    resident = Resident(given.device)
    inside = measure.timed({"a step": resident.epoch, "picking its rows": resident.pick}, given.rounds)
    measure.table(inside, "a step")
    step, pick = (measure.statistics.median(s) / resident.n_steps for s in inside.values())
    print(f"resident rows: {1e3 * step:.3f} ms a step, picking its rows {1e3 * pick:.4f} ms: {100 * pick / step:.2f} %")
    measure.write(given.json, seconds | inside)


if __name__ == "__main__":
    main(measure.options(__doc__, device="cpu", gib=1, chunk_mib=256, folder=""))
