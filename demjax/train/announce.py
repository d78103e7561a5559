"""What a run says before it trains: where, on what, how large."""

from collections.abc import Callable
from typing import Any

import jax

import demjax
from demjax.train.run import Run

TOLD_BYTES = 2**26  # of rows: where smaller ones lie nobody asks


def announce(run: Run, params: Any, say: Callable[[str], None]) -> None:
    """Says it, some lines."""
    d, config = run.dataset, run.config
    device = run.mesh.devices.flat[0]
    n_params = sum(x.size for x in jax.tree.leaves(params))
    n = jax.process_count()
    say(f"demjax {demjax.__version__} | {f'{n} processes' if n > 1 else '1 process'} | "
        f"{run.mesh.size} x {device.device_kind} ({device.platform})")  # fmt: skip
    say(f"{d.name} ({d.version}): {len(d.labels)} images x {d.features.shape[1]} features, {len(d.seen)} seen and "
        f"{len(d.unseen)} unseen classes x {d.semantics.shape[1]} semantics")  # fmt: skip
    if d.descriptions is not None:
        say(f"{len(d.descriptions.sentences):,} descriptions ({d.sources['descriptions']})")
    for note in run.task.notes:
        say(note)
    if run.task.solve:
        say(f"{run.task.name} ({run.task.direction}, {run.task.score}): {n_params:,} parameters in closed form")
        return
    if run.placement.row_bytes * run.placement.n_rows > TOLD_BYTES or run.placement.kind != "replicated":
        say(run.placement.told(run.mesh))
    say(f"{run.task.name} ({run.task.direction}, {run.task.score}): {n_params:,} parameters; batches of "
        f"{run.batch_size} {'images' if config.train.batching == 'examples' else 'classes'}, "
        f"{run.steps_per_epoch} steps an epoch, {config.train.epochs} epochs")  # fmt: skip


def silent(line: str) -> None:
    """Process 0 speaks for all: this is what the others say."""
