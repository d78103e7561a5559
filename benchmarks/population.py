"""64 members of a population against 64 single runs and against PyTorch, eager and with torch.func.vmap, in one run.

    python benchmarks/population.py                 CPU, about three minutes
    python benchmarks/population.py --device gpu    also the share of the memory-traffic limit

A member is the attribute branch of DEM at the size of the released CUB script on 1024-d features: 312 -> 700 -> 1024,
100 images a step, Adam, L2 on all parameters; 64 learning rates. Contestants train every member for the same number
of steps from fresh weights. PyTorch eager loops over the members with fused Adam; torch.func.vmap stacks them and steps
all at once with a hand-written Adam on stacked tensors, as its documentation does; all its members see the
same batches. Seconds for all members; the ratios stand last.
"""

import importlib
from typing import Any

import measure
import numpy as np

N_SEEN, N_IMAGES, N_SEMANTICS, N_HIDDEN, N_FEATURES, BATCH, L2 = 150, 1000, 312, 700, 1024, 100, 1e-2


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x": np.maximum(rng.standard_normal((N_IMAGES, N_FEATURES), np.float32), 0),
        "label": np.sort(rng.integers(0, N_SEEN, N_IMAGES)),
        "semantics": rng.random((N_SEEN, N_SEMANTICS), np.float32),
    }


class Demjax:
    """The engine: one population, or its members one after the other through the same compiled epoch."""

    def __init__(self, data: dict[str, np.ndarray], members: int, passes: int, device: str):
        import jax

        from demjax.train.config import default_config
        from demjax.train.engine.epoch import compile_epoch
        from demjax.train.engine.placement import place_rows
        from demjax.train.engine.state import state_maker
        from demjax.train.experiment import build
        from demjax.train.sweep import replicas

        del data
        self._jax = jax
        rates = tuple(float(r) for r in np.geomspace(1e-5, 1e-3, members))
        config = default_config()
        config.data.name = "planted"
        config.data.planted.update(
            n_classes=N_SEEN + 2, n_unseen=2, n_attributes=N_SEMANTICS, n_features=N_FEATURES, images_per_class=8
        )
        config.task.update(hidden=N_HIDDEN, init="released", semantics_scale="none", loss_form="released", l2=L2)
        config.train.update(batching="examples", batch_size=BATCH, passes_per_epoch=passes, epochs=1)
        config.population.update(seeds=1, settings=(("optimizer.learning_rate", rates),))
        devices = jax.devices(device)[:1]
        self._population = population = replicas.build_population(config, devices)
        shared = population.experiment
        self.steps = shared.steps_per_epoch
        self._rows = place_rows(shared.rows, shared.task.fields, shared.mesh)
        self._constants = jax.device_put(dict(shared.constants), devices[0])
        self._together = replicas.compile_population(population)
        self._states = replicas.initial_states
        alone = build(replicas.member_config(config, population.members[0]), devices)
        self._epoch = compile_epoch(alone.task, population.optimizer, alone.mesh, alone.plan)
        self._rates = rates
        make = state_maker(alone.task, population.optimizer)
        self._fresh = lambda: make(np.uint32(0), alone.statistics)
        self.parameters = sum(x.size for x in jax.tree.leaves(self._fresh().variables.params))

    def population(self) -> None:
        states = self._states(self._population)
        self._jax.block_until_ready(self._together(states, self._population.numbers, self._rows, self._constants))

    def singles(self) -> None:
        for rate in self._rates:
            constants = self._constants | {"learning_rate": np.float32(rate)}
            self._jax.block_until_ready(self._epoch(self._fresh(), self._rows, constants))


class Torch:
    def __init__(self, data: dict[str, np.ndarray], members: int, steps: int, device: str):
        import torch

        self._torch, self._members, self._steps = torch, members, steps
        self._device = torch.device("cuda" if device == "gpu" else "cpu")
        put = lambda v: torch.tensor(v, device=self._device)  # noqa: E731
        self._x, self._label, self._semantics = (put(data[k]) for k in ("x", "label", "semantics"))
        self._rates = np.geomspace(1e-5, 1e-3, members)

    def _weights(self) -> list[Any]:
        torch, shapes = self._torch, ((N_SEMANTICS, N_HIDDEN), (N_HIDDEN,), (N_HIDDEN, N_FEATURES), (N_FEATURES,))
        return [
            torch.nn.init.trunc_normal_(torch.empty(s, device=self._device), std=0.1) if len(s) > 1
            else torch.full(s, 0.1, device=self._device)
            for s in shapes
        ]  # fmt: skip

    def _loss(self, w: list[Any], x: Any, y: Any) -> Any:
        out = self._torch.relu(self._torch.relu(y @ w[0] + w[1]) @ w[2] + w[3])
        return ((out - x) ** 2).mean() + L2 / 2 * sum((p * p).sum() for p in w)

    def _batches(self) -> Any:
        for step in range(self._steps):
            if step % (N_IMAGES // BATCH) == 0:
                order = self._torch.randperm(N_IMAGES, device=self._device).split(BATCH)
            ids = order[step % (N_IMAGES // BATCH)]
            yield self._x[ids], self._semantics[self._label[ids]]

    def _wait(self) -> None:
        if self._device.type == "cuda":
            self._torch.cuda.synchronize()

    def eager(self) -> None:
        for rate in self._rates:
            w = [p.requires_grad_() for p in self._weights()]
            adam = self._torch.optim.Adam(w, lr=float(rate), fused=True)
            for x, y in self._batches():
                adam.zero_grad(set_to_none=True)
                self._loss(w, x, y).backward()
                adam.step()
        self._wait()

    def vmapped(self) -> None:
        torch = self._torch
        own = [self._weights() for _ in self._rates]
        w = [torch.stack([o[i] for o in own]) for i in range(4)]
        m, v = [torch.zeros_like(p) for p in w], [torch.zeros_like(p) for p in w]
        rates = torch.tensor(self._rates, dtype=torch.float32, device=self._device)
        gradient = torch.func.vmap(torch.func.grad(self._loss), in_dims=(0, None, None))
        for step, (x, y) in enumerate(self._batches(), start=1):
            grads = gradient(w, x, y)
            for p, g, a, b in zip(w, grads, m, v, strict=True):
                a.lerp_(g, 0.1)
                b.mul_(0.999).addcmul_(g, g, value=0.001)
                scale = (rates / (1 - 0.9**step)).view(-1, *[1] * (p.ndim - 1))
                p.sub_(scale * a / ((b / (1 - 0.999**step)).sqrt() + 1e-8))
        self._wait()


def main(given: Any) -> None:
    import jax

    torch = importlib.import_module("torch") if measure.has("torch") else None
    print(measure.machine(jax, np, torch))
    data = arrays()
    ours = Demjax(data, given.members, given.passes, given.device)
    contestants = {"demjax population": ours.population, "demjax, single runs": ours.singles}
    if torch:
        peer = Torch(data, given.members, ours.steps, given.device)
        contestants |= {"torch eager, fused Adam": peer.eager, "torch.func.vmap": peer.vmapped}
    seconds = measure.timed(contestants, given.rounds)
    print(f"{given.members} members x {ours.steps} steps, {ours.parameters:,} parameters each, {given.device}")
    measure.table(seconds, "demjax population")
    if given.device == "gpu":
        # Adam reads and writes weights and both moments, and reads the gradient once more: 7 passes of 4 bytes.
        traffic = 7 * 4 * ours.parameters * given.members * ours.steps
        rate = traffic / measure.statistics.median(seconds["demjax population"])
        print(f"memory traffic of the state alone {rate / 1e12:.2f} TB/s = {rate / given.bandwidth:.2f} of the limit")
    measure.write(given.json, seconds)


if __name__ == "__main__":
    main(measure.options(__doc__, device="cpu", members=64, passes=2, bandwidth=int(4.8e12)))
