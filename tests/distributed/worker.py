"""What each of several processes runs: `python worker.py PROCESS N ADDRESS FOLDER WHAT...`.

WHAT is `searches`, whose results process 0 writes to FOLDER, or a key of CONFIGS, a run in FOLDER/WHAT; `WHAT:2` stops
after two epochs. Called in one process the same functions are the reference.
"""

import signal
import sys
from pathlib import Path

import numpy as np


def planted(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def searches(mesh):
    """Every kind of search, on all devices of all processes."""
    from demjax import hubness
    from demjax.search import log_sum_exp, moments, nearest, ranks

    queries, gallery = planted(70, 5, 0), planted(301, 5, 1)
    found = {}
    for precision in ("highest", "certified"):
        near = nearest(queries, gallery, k=7, score="euclidean", mesh=mesh, precision=precision)
        found |= {f"{precision} ids": near.ids, f"{precision} scores": near.scores}
    found["one gallery tile a device"] = nearest(queries[:3], gallery, k=2, score="dot", mesh=mesh).ids
    found["self"] = nearest(gallery, gallery, k=3, score="cosine", mesh=mesh, exclude_self=True).ids
    found["ranks"] = ranks(queries, gallery, np.arange(70)[:, None], score="cosine", mesh=mesh)
    found["mean"], found["std"] = moments(queries, gallery, "cosine", mesh=mesh)
    found["log_sum_exp"] = log_sum_exp(queries, gallery, 10.0, "cosine", mesh=mesh)
    csls = hubness.fit("csls", queries, gallery, planted(90, 5, 2), score="cosine", mesh=mesh)
    corrected = nearest(queries, gallery, k=1, score="cosine", mesh=mesh, correction=csls)
    found |= {"corrected": corrected.ids, "occurrence": hubness.k_occurrence(corrected.ids, 301)}
    return {name: np.asarray(x) for name, x in found.items()}


def small(task, **changes):
    """The config of a run of a second: SGD, whose sums over devices show in every digit."""
    from demjax.train.config import default_config, quick

    config = default_config(task)
    quick(config)
    config.optimizer.update(name="sgd", learning_rate=1e-3)
    config.log.tensorboard = False
    config.evaluate.query_batch = 16
    config.update_from_flattened_dict(changes)
    return config


MAPPED = {"train.batching": "examples", "data.semantics": "table", "data.split": "seen/unseen"}
CONFIGS = {
    "dem": (
        "dem",
        {
            "train.batching": "examples",
            "train.placement": "sharded",
            "evaluate.hits": (1, 3),
            "evaluate.correction": "csls",
        },
    ),
    "streamed": (
        "dem",
        MAPPED | {"train.passes_per_epoch": 1, "train.placement": "streamed", "train.chunk_rows": 50},
    ),
    "mapped": (
        "dem",
        MAPPED
        | {
            "train.batching": "class_sums",
            "evaluate.calibrate": True,
            "evaluate.correction": "auto",
            "evaluate.every": 1,
        },
    ),
    "shared_out": ("dem", MAPPED | {"train.placement": "sharded"}),
    "class_norm": ("class_norm", {"train.batching": "examples", "train.batch_size": 30, "evaluate.calibrate": True}),
    "ds_sje": (
        "ds_sje",
        {"task.encoder": "bow", "train.batching": "classes", "train.batch_size": 9, "data.descriptions": "generated"},
    ),
    "ridge": ("ridge", {}),
}


def write_set(folder):
    """A set of mapped features."""
    table, labels = planted(12, 4, 3), np.arange(240) % 12
    (folder / "lists").mkdir(parents=True)
    np.save(folder / "features.npy", (table @ planted(4, 7, 4) / 3)[labels] + planted(240, 7, 5))
    np.save(folder / "labels.npy", labels)
    np.save(folder / "table.npy", table)
    (folder / "classes.txt").write_text("".join(f"c{i:02d}\n" for i in range(12)))
    (folder / "lists" / "seen.txt").write_text("".join(f"c{i:02d}\n" for i in range(9)))
    (folder / "lists" / "unseen.txt").write_text("c09\nc10\nc11\n")


def small_blocks(set_attribute=setattr):
    """Of sentences and of mapped files, so that there is something to share out."""
    from demjax.data import fingerprints
    from demjax.train import embedder

    set_attribute(embedder, "SENTENCES", 16)
    set_attribute(fingerprints, "BLOCK_BYTES", 512)


def counting_rows():
    """From here on the rows read from mapped files are counted."""
    from demjax.data import class_set, fingerprints, lazy_rows

    count, read_rows = [0], lazy_rows.read_rows

    def counted(source, ids):
        count[0] += len(ids)
        return read_rows(source, ids)

    for module in (lazy_rows, fingerprints, class_set):
        module.read_rows = counted
    return count


def train(what, folder, devices=None):
    """Runs WHAT; a stop is asked for in process 0 only."""
    from demjax.train.fit import train_and_evaluate
    from demjax.train.run_folder.stop import Preempted, stop

    name, _, epochs = what.partition(":")
    task, changes = CONFIGS[name]
    if "data.split" in changes:
        changes = changes | {"data.name": "MAPPED", "data.dir": str(folder / "set")}
    lines = []

    def say(line):
        lines.append(line)
        if epochs and line.startswith(f"epoch {epochs}"):
            stop.requested_by = signal.SIGTERM

    try:
        train_and_evaluate(small(task, **changes), folder / name, devices=devices, say=say)
    except Preempted as stopped:
        lines.append(str(stopped))
    stop.requested_by = None
    return lines


def main(process, n, address, folder, tasks):
    from demjax import distributed
    from demjax.mesh import data_mesh

    print(distributed.join("on", distributed.Address(address, n, process)), flush=True)
    small_blocks()
    count = counting_rows()
    long = "checkpoint 1 of very many, " * 500
    assert distributed.from_first(long) == long  # longer than a message is otherwise
    for what in tasks:
        if what == "searches":
            found = searches(data_mesh())
            if distributed.is_first():
                np.savez(folder / "searches.npz", **found)
        else:
            print("\n".join(train(what, folder)), flush=True)
        print(f"rows read from files: {count[0]}")
    distributed.leave(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), sys.argv[5:])
