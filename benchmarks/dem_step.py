"""Steps per second of DEM training at the reference's semantics, against PyTorch, in one run.

    python benchmarks/dem_step.py                    CPU, about two minutes
    python benchmarks/dem_step.py --device gpu

One step: 100 images of 7,057 x 2,048 gathered in shuffled order, their class vectors looked up (150 x 312),
312 -> 1200 -> 2048 with two ReLUs, mean squared error over images and dimensions plus L2/2 on weights and
biases, Adam at 1e-5: the released CUB script. demjax runs its real epoch (train/engine/epoch.py,
permutation and gathers included). The peers are PyTorch eager with fused Adam, and torch.compile of forward and
backward with the same Adam. All start from the same weights and the same batches, and must agree on the first losses
before anything is timed. Rounds are interleaved; medians; the ratio stands last. Without PyTorch only demjax is timed.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

N_SEEN, N_IMAGES, N_SEMANTICS, N_HIDDEN, N_FEATURES, BATCH = 150, 7057, 312, 1200, 2048, 100
RATE, L2 = 1e-5, 1e-2
STEPS = -(-N_IMAGES // BATCH)  # of an epoch: 71
HAS_TORCH = importlib.util.find_spec("torch") is not None
AIMS = {"torch eager, fused Adam": 1.6, "torch.compile, fused Adam": 1.0}


def make_dataset() -> Any:
    """A planted set of CUB's sizes: 150 seen classes, 7,057 training images."""
    import dataclasses

    import numpy as np

    from demjax.data.sources.planted import plant

    full = plant(n_classes=N_SEEN + 2, n_unseen=2, n_attributes=N_SEMANTICS, n_features=N_FEATURES, images_per_class=60)
    kept = np.sort(np.random.default_rng(0).permutation(full.splits["trainval"])[:N_IMAGES])
    splits = dict(full.splits) | {"trainval": kept, "train": kept[:0], "val": kept[:0]}
    return dataclasses.replace(full, splits=splits)


class Demjax:
    """The engine as a run uses it."""

    name = "demjax, one compiled epoch"

    def __init__(self, dataset: Any, device: str):
        import jax
        import numpy as np

        from demjax.data.batches import examples
        from demjax.mesh import data_mesh, replicate
        from demjax.tasks.zsl.dem import dem
        from demjax.train.engine.epoch import Plan, batch_order, compile_epoch
        from demjax.train.engine.optimizer import make_optimizer
        from demjax.train.engine.placement import place_rows
        from demjax.train.engine.state import init_state

        self._jax = jax
        settings = dict(hidden=N_HIDDEN, init="released", semantics_scale="none", loss_form="released", l2=L2)
        task = dem(dataset.spec, **settings)
        optimizer = make_optimizer(name="adam", learning_rate=RATE, total_steps=10**6)
        mesh = data_mesh(jax.devices(device)[:1])
        self._rows = place_rows(examples(dataset), task.fields, mesh)
        self._constants = replicate(dict(task.constants(dataset)), mesh)
        self._epoch = compile_epoch(task, optimizer, mesh, Plan(n_rows=N_IMAGES, batch_size=BATCH))
        self._state = replicate(init_state(task, optimizer, seed=0), mesh)
        params = self._state.variables.params
        self.weights = [np.array(params[a][b][...]) for a in ("hidden", "visual") for b in ("kernel", "bias")]
        pass_key = jax.random.fold_in(jax.random.wrap_key_data(self._state.key), 0)
        self.order = np.array(batch_order(jax.random.split(pass_key)[0], N_IMAGES, BATCH, BATCH))
        self.device = str(mesh.devices.flat[0].device_kind)

    def epoch(self) -> Any:
        """Losses of the next 71 steps; returns when they are done."""
        self._state, losses = self._jax.block_until_ready(self._epoch(self._state, self._rows, self._constants))
        return losses["loss"]


class Torch:
    """The same step in PyTorch; the order of the batches is drawn on the device, as there."""

    def __init__(self, name: str, dataset: Any, demjax: Demjax, device: str, compiled: str | None):
        import torch

        self._torch, self.name = torch, name
        self._device = torch.device("cuda" if device == "gpu" else "cpu")
        put = lambda x: torch.tensor(x, device=self._device)  # noqa: E731
        ids = dataset.splits["trainval"]
        self._x, self._label = put(dataset.features[ids]), put(dataset.labels[ids])
        self._semantics = put(dataset.semantics)
        self._weights = [put(w).requires_grad_() for w in demjax.weights]
        self._first_order = demjax.order
        self._adam = torch.optim.Adam(self._weights, lr=RATE, fused=True)
        self._loss = torch.compile(self._eager_loss, mode=compiled) if compiled else self._eager_loss

    def _eager_loss(self, x: Any, y: Any) -> Any:
        w1, b1, w2, b2 = self._weights
        out = self._torch.relu(self._torch.relu(y @ w1 + b1) @ w2 + b2)
        return ((out - x) ** 2).mean() + L2 / 2 * sum((w * w).sum() for w in self._weights)

    def epoch(self) -> list[float]:
        torch = self._torch
        if self._first_order is None:
            order = torch.randperm(N_IMAGES, device=self._device).split(BATCH)
        else:
            rows = [row[row < N_IMAGES] for row in self._first_order]
            order = [torch.tensor(row, device=self._device, dtype=torch.long) for row in rows]
        self._first_order = None
        losses = []
        for ids in order:
            self._adam.zero_grad(set_to_none=True)
            loss = self._loss(self._x[ids], self._semantics[self._label[ids]])
            loss.backward()
            self._adam.step()
            losses.append(loss.detach().clone())  # reduce-overhead reuses the memory of its outputs
        return torch.stack(losses).tolist()  # one wait for the device an epoch, as in demjax


def check_device(device: str) -> None:
    """Both sides must see the GPU, or the comparison is none; one line instead of a traceback."""
    import jax

    if device == "gpu" and jax.default_backend() != "gpu":
        sys.exit(f"JAX sees no GPU (backend {jax.default_backend()}): pip install 'jax[cuda13]', or --device cpu")
    if not HAS_TORCH:
        print("torch is not installed: only demjax is timed; pip install torch (CPU), or its build for your GPU")
        return
    import torch

    if device == "gpu" and not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} sees no GPU: install its CUDA build, or --device cpu")


def contestants(device: str) -> list[Any]:
    dataset = make_dataset()
    ours = Demjax(dataset, device)
    if not HAS_TORCH:
        return [ours]
    peers = [("torch eager, fused Adam", None), ("torch.compile, fused Adam", "default")]
    if device == "gpu":
        peers.append(("torch.compile reduce-overhead, fused Adam", "reduce-overhead"))
    return [ours, *(Torch(name, dataset, ours, device, compiled) for name, compiled in peers)]


def warm_up(contestant: Any) -> tuple[Any, float]:
    """Losses of the first epoch and its seconds, compilation included."""
    begun = time.perf_counter()
    return contestant.epoch(), time.perf_counter() - begun


def check_agreement(losses: dict[str, Any]) -> None:
    """All must compute the same thing: the first 20 losses agree to 1e-4, or nothing is timed."""
    reference = [float(v) for v in next(iter(losses.values()))[:20]]
    for name, values in losses.items():
        worst = max(abs(float(v) - r) / r for v, r in zip(values[:20], reference, strict=True))
        if worst > 1e-4:
            sys.exit(f"{name} computes something else: its losses differ by {worst:.1e}")


def measure(these: list[Any], rounds: int, time_of: Callable[[], float] = time.perf_counter) -> dict[str, list[float]]:
    """Milliseconds per step, `rounds` values each, in turn A B C A B C ..."""
    found: dict[str, list[float]] = {c.name: [] for c in these}
    for _ in range(rounds):
        for contestant in these:
            begun = time_of()
            contestant.epoch()
            found[contestant.name].append(1000 * (time_of() - begun) / STEPS)
    return found


def machine() -> str:
    import jax

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = models[0].partition(":")[2].strip() if models else model
    line = f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}; Python {platform.python_version()}, "
    line += f"jax {jax.__version__}"
    if HAS_TORCH:
        import torch

        line += f", torch {torch.__version__} with {torch.get_num_threads()} threads"
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of 71 steps timed for each (default 7)")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    args = parser.parse_args()
    check_device(args.device)
    if args.rounds < 1:
        parser.error(f"--rounds is {args.rounds}: expected 1 or more")

    print(machine())
    print(f"batch {BATCH} of {N_IMAGES} x {N_FEATURES} float32, {N_SEMANTICS} -> {N_HIDDEN} -> {N_FEATURES}, Adam")
    these = contestants(args.device)
    first = {c.name: warm_up(c) for c in these}
    check_agreement({name: losses for name, (losses, _) in first.items()})
    found = measure(these, args.rounds)

    ours = statistics.median(found[these[0].name])
    print(f"\n{'':42} {'ms/step':>8} {'(min - max)':>15} {'steps/s':>8} {'first epoch s':>14}")
    for name, values in found.items():
        middle, span = statistics.median(values), f"({min(values):.1f} - {max(values):.1f})"
        print(f"{name:42} {middle:8.2f} {span:>15} {1000 / middle:8.1f} {first[name][1]:14.1f}")
    ratios = {c.name: statistics.median(found[c.name]) / ours for c in these[1:]}
    if args.json:
        args.json.write_text(
            json.dumps({"ms_per_step": found, "ratios": ratios, "machine": machine()}, indent=2) + "\n"
        )
    print()
    for name, ratio in reversed(ratios.items()):
        print(f"demjax is {ratio:.2f} x as fast as {name}" + (f" (aim {AIMS[name]})" if name in AIMS else ""))


if __name__ == "__main__":
    main()
