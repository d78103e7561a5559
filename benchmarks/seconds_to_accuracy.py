"""Seconds until DEM reaches a T1 on CUB: demjax by class sums and by minibatches, and PyTorch as the scripts do.

    python benchmarks/seconds_to_accuracy.py --dir FOLDER         FOLDER holds vgg19.mat and att_splits.mat

All train the same network (312 -> 1200 -> 4096, He, features as they are, attributes at norm sqrt(312)), loss (least
squares, lambda 0.1 of the paper's form) and optimiser (Adam 3e-3), and answer by cosine. demjax is the engine as a run
uses it, compilation included. PyTorch draws minibatches of 100 images, eager with fused Adam, and looks at T1 after
every pass, as the scripts do every so many steps. Looking is not counted, on either side. This compares roads to an
accuracy, not steps: the full batch of class sums and minibatches are different optimisers.
"""

import importlib
import time
from typing import Any

import measure
import numpy as np

HIDDEN, L2, RATE, BATCH = 1200, 0.1, 3e-3, 100


def t1(features: np.ndarray, labels: np.ndarray, prototypes: np.ndarray, classes: np.ndarray) -> float:
    """Per-class accuracy of the nearest prototype by cosine."""
    x, p = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (features, prototypes))
    found = classes[np.argmax(x @ p.T, axis=1)]
    return float(np.mean([np.mean(found[labels == c] == c) for c in classes]))


def ours(data: Any, batching: str, aim: float, seed: int, most: int) -> tuple[float, float]:
    """(seconds, T1)."""
    import jax

    from demjax.mesh import data_mesh, replicate
    from demjax.tasks.zsl.dem import dem
    from demjax.train.engine.epoch import Plan, compile_epoch
    from demjax.train.engine.optimizer import make_optimizer
    from demjax.train.engine.placement import place_rows
    from demjax.train.engine.state import init_state

    test = data.splits["test_unseen"]
    begun = time.perf_counter()
    task = dem(data.spec, hidden=HIDDEN, l2=L2)
    optimizer = make_optimizer(name="adam", learning_rate=RATE, total_steps=1)
    mesh = data_mesh(jax.devices()[:1])
    rows = task.batchings[batching](data)
    n, full = rows.n_rows, batching == "class_sums"
    epoch = compile_epoch(task, optimizer, mesh, Plan(n, n if full else BATCH, passes=25 if full else 1))
    state = replicate(init_state(task, optimizer, seed), mesh)
    placed, constants = place_rows(rows, task.fields, mesh), replicate(dict(task.constants(data)), mesh)
    spent = time.perf_counter() - begun
    reached = 0.0
    for _ in range(most):
        begun = time.perf_counter()
        state, _ = jax.block_until_ready(epoch(state, placed, constants))
        spent += time.perf_counter() - begun
        unseen = data.items("class", data.unseen, task.columns("class"))
        prototypes = np.asarray(task.embed["class"](state.variables, unseen))
        reached = t1(data.features[test], data.labels[test], prototypes, data.unseen)
        if reached >= aim:
            return spent, reached
    return float("inf"), reached


def pytorch(data: Any, aim: float, seed: int, most: int) -> tuple[float, float]:
    import torch

    torch.manual_seed(seed)
    ids, test = data.splits["trainval"], data.splits["test_unseen"]
    begun = time.perf_counter()
    table = torch.tensor(data.class_vectors("sqrt"))
    x, label = torch.tensor(data.features[ids]), torch.tensor(data.labels[ids])
    net = torch.nn.Sequential(
        torch.nn.Linear(table.shape[1], HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, x.shape[1]), torch.nn.ReLU()
    )
    for layer in (net[0], net[2]):
        torch.nn.init.kaiming_normal_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    adam = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
    spent = time.perf_counter() - begun
    reached = 0.0
    for _ in range(most):
        begun = time.perf_counter()
        for batch in torch.randperm(len(x)).split(BATCH):
            adam.zero_grad(set_to_none=True)
            fit = ((net(table[label[batch]]) - x[batch]) ** 2).sum(dim=1).mean()
            (fit + L2 * (net[0].weight.square().sum() + net[2].weight.square().sum())).backward()
            adam.step()
        spent += time.perf_counter() - begun
        with torch.no_grad():
            prototypes = net(table[torch.tensor(data.unseen)]).numpy()
        reached = t1(data.features[test], data.labels[test], prototypes, data.unseen)
        if reached >= aim:
            return spent, reached
    return float("inf"), reached


def main(given: Any) -> None:
    import jax

    from demjax.data import load

    torch = importlib.import_module("torch") if measure.has("torch") else None
    print(measure.machine(jax, np, torch))
    data, aim = load("CUB", dir=given.dir, features="vgg19"), given.percent / 100
    contestants = {
        "demjax, class sums": lambda seed: ours(data, "class_sums", aim, seed, 40),
        "demjax, minibatches": lambda seed: ours(data, "examples", aim, seed, given.passes),
    }
    if torch:
        contestants["torch eager, minibatches"] = lambda seed: pytorch(data, aim, seed, given.passes)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for seed in range(given.rounds):
        for name, run in contestants.items():
            spent, reached = run(seed)
            seconds[name].append(spent)
            print(f"  seed {seed}: {name:<28} {spent:8.2f} s, T1 {100 * reached:.1f}", flush=True)
    print(f"seconds to T1 {given.percent} % (inf: not within {given.passes} passes)")
    measure.table(seconds, "demjax, class sums")
    measure.write(given.json, seconds)


if __name__ == "__main__":
    main(measure.options(__doc__, dir="data/cub", percent=51, passes=40))
