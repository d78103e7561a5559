"""What more devices cost, measured on virtual ones, and what they would give, computed.

    python benchmarks/scaling.py                 1, 2, 4, 8 virtual CPU devices, two minutes, and the model
    python benchmarks/scaling.py --model 1       the model only

Virtual devices share the real cores, so nothing can become faster: what is told is how much longer a step takes than
the same work on one device (the overhead of cutting, waiting and reducing), and the bytes that a step moves, from the
compiled program. Strong: 1,024 rows a step, whatever the devices. Weak: 256 rows on each, against as many rows on one.

The model has ImageNet-21k in mind: 14.2 million features of 2,048 numbers, 21,841 classes of 1,000 numbers, DEM of
1,600 hidden units. Peaks are of data sheets, and nothing of it has been measured.
"""

import dataclasses
import math
import os
import re
from typing import Any, NamedTuple

os.environ.setdefault("NPROC", "32")  # before JAX: eight virtual devices in a loop need threads enough

import measure

STRONG_ROWS, WEAK_ROWS, STEPS = 1024, 256, 20
LAYERS = (312, 700, 2048)


class Contest:
    """Epochs of STEPS steps of DEM on some devices."""

    def __init__(self, n_devices: int, rows: int):
        import jax
        import numpy as np

        from demjax.data import load
        from demjax.data.batches import examples
        from demjax.mesh import data_mesh, replicate
        from demjax.tasks import TASKS
        from demjax.train.engine.epoch import Plan, compile_epoch
        from demjax.train.engine.optimizer import make_optimizer
        from demjax.train.engine.placement import place_rows
        from demjax.train.engine.state import init_state

        n_attributes, hidden, n_features = LAYERS
        per_class = 2 + rows * STEPS // 40
        planted = dict(n_classes=50, n_unseen=10, n_attributes=n_attributes, n_features=64, images_per_class=per_class)
        data = load("planted", planted=planted)
        wide = np.random.default_rng(0).standard_normal((len(data.labels), n_features), np.float32)
        data = dataclasses.replace(data, features=wide)
        task = TASKS["dem"](data.spec, hidden=hidden)
        optimizer = make_optimizer(name="adam", learning_rate=1e-4, total_steps=STEPS, steps_per_pass=STEPS)
        mesh, all_rows = data_mesh(jax.devices()[:n_devices]), examples(data)
        kept = {name: np.concatenate([x[: rows * STEPS], x[-1:]]) for name, x in all_rows.columns.items()}
        self._state = replicate(init_state(task, optimizer, 0), mesh)
        constants = replicate(dict(task.constants(data)), mesh)
        placed = place_rows(all_rows._replace(columns=kept), task.fields, mesh), constants
        compiled = compile_epoch(task, optimizer, mesh, Plan(rows * STEPS, rows)).lower(self._state, *placed).compile()
        self.moved = moved_bytes(compiled.as_text(), n_devices)
        self._jax, self._epoch, self._placed = jax, compiled, placed

    def __call__(self) -> None:
        self._state, losses = self._epoch(self._state, *self._placed)
        self._jax.block_until_ready(losses)


def moved_bytes(program: str, n: int) -> float:
    """What a device sends in a step: a ring passes 2 (n - 1) / n of what is reduced."""
    whole = 0
    for shapes in re.findall(r"= (.*?) all-reduce(?:-start)?\(", program):
        for dims in re.findall(r"f32\[([\d,]*)\]", shapes):
            whole += 4 * math.prod(int(n) for n in dims.split(",") if n)
    return 2 * (n - 1) / n * whole


class Machine(NamedTuple):
    """Peaks of one chip by its data sheet, and of what joins them."""

    name: str
    chips: int
    bf16: float  # FLOP/s
    memory: float  # bytes/s
    link: float  # bytes/s between chips, each way


MACHINES = (
    Machine("TPU v5e-256", 256, 197e12, 819e9, 200e9 / 2),  # 1,600 Gbit/s ICI a chip, both ways together
    Machine("64 x H200 (8 nodes)", 64, 989e12, 4.8e12, 50e9),  # 400 Gbit/s network a GPU: the slowest of the way
)
IMAGES, CLASSES, ATTRIBUTES, HIDDEN, WIDTH = 14_200_000, 21_841, 1000, 1600, 2048
PASSES_OF_FLOAT32 = 6  # bfloat16 products that make one of `highest` on a TPU; a GPU multiplies float32 by itself
H200_FLOAT32 = 50e12
BATCH = 1024  # rows a chip


def model(m: Machine) -> None:
    """Prints every figure with its arithmetic."""
    params = ATTRIBUTES * HIDDEN + HIDDEN + HIDDEN * WIDTH + WIDTH
    flop = 6 * params * BATCH
    state = 4 * 4 * params  # parameters, two moments, gradient, float32
    rows = BATCH * (ATTRIBUTES + 2 * WIDTH) * 4
    float32 = m.bf16 / PASSES_OF_FLOAT32 if "TPU" in m.name else H200_FLOAT32
    compute, memory = flop / float32, (2 * state + rows) / m.memory
    reduce = 2 * (m.chips - 1) / m.chips * 4 * params / m.link
    step = max(compute, memory) + reduce
    steps = IMAGES / (BATCH * m.chips)
    product = 2 * IMAGES * CLASSES * WIDTH
    shared = WIDTH * 4 * BATCH * (m.chips - 1) / m.link
    held = IMAGES * WIDTH * 4 / m.chips
    n, link, us = m.chips, f"{m.link / 1e9:.0f} GB/s", 1e6
    lines = {
        "parameters": f"1000 x 1600 + 1600 x 2048 + biases = {params:,}, {4 * params / 1e6:.1f} MB",
        "rows a chip": f"14.2e6 x 2048 x 4 B / {n} = {held / 1e9:.2f} GB (train.placement=sharded)",
        "products of a step": f"6 x {params:,} x {BATCH} = {flop:.3g} FLOP: {us * compute:.0f} us at "
        f"{float32 / 1e12:.0f} TFLOP/s (float32), {us * flop / m.bf16:.0f} us at bfloat16",
        "memory of a step": f"2 x {state / 1e6:.0f} MB state + {rows / 1e6:.0f} MB rows: {us * memory:.0f} us",
        "all-reduce": f"2 x {n - 1}/{n} x {4 * params / 1e6:.1f} MB / {link} = {us * reduce:.0f} us",
        "a step": f"max(products, memory) + all-reduce = {us * step:.0f} us",
        "rows shared out": f"{BATCH} x {n - 1} x 8 KiB / {link} = {us * shared:.0f} us more a step",
        "a pass": f"14.2e6 / ({BATCH} x {n}) = {steps:.0f} steps: {steps * step:.2f} s, with rows shared out "
        f"{steps * (step + shared):.2f} s",
        "search, all images": f"2 x 14.2e6 x 21,841 x 2048 = {product:.3g} FLOP: {product / n / float32:.2f} s at "
        f"{float32 / 1e12:.0f} TFLOP/s a chip, {product / n / m.bf16:.3f} s at bfloat16",
    }
    print(f"\n{m.name}: {n} chips")
    print("\n".join(f"  {what:<22}{told}" for what, told in lines.items()))


def main(given: Any) -> None:
    if not given.model:
        import jax

        jax.config.update("jax_num_cpu_devices", 8)
        print(measure.machine(jax))
        strong = {n: Contest(n, STRONG_ROWS) for n in (1, 2, 4, 8)}
        tell("strong", strong, dict.fromkeys(strong, strong[1]), given.rounds)
        weak = {n: Contest(n, WEAK_ROWS * n) for n in (1, 2, 4, 8)}
        tell("weak", weak, {1: weak[1]} | {n: Contest(1, WEAK_ROWS * n) for n in (2, 4, 8)}, given.rounds)
    for machine in MACHINES:
        model(machine)


def tell(kind: str, contests: dict[int, Contest], alone: dict[int, Contest], rounds: int) -> None:
    """Milliseconds of a step, and how many more than the same rows on one device."""
    everyone = {f"{n} devices": c for n, c in contests.items()} | {f"{n} alone": c for n, c in alone.items()}
    seconds = measure.timed(everyone, rounds)
    median = {name: 1e3 * measure.statistics.median(s) / STEPS for name, s in seconds.items()}
    print(f"\n{kind}: ms a step")
    for n, contest in contests.items():
        mine, same = median[f"{n} devices"], median[f"{n} alone"]
        print(f"  {n} devices {mine:8.2f}   the same rows on one {same:8.2f}   overhead {mine - same:+7.2f}   "
              f"sent by a device {contest.moved / 1e6:.1f} MB")  # fmt: skip


if __name__ == "__main__":
    main(measure.options(__doc__, model=0))
