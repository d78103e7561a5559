"""What a run says before it trains: where, on what, how large."""

from typing import Any

import jax

import demjax
from demjax.train.experiment import Experiment

SHOWN_BYTES = 2**26  # of rows: the place of smaller ones is not shown


def summarise(experiment: Experiment, params: Any) -> list[str]:
    """The first lines of a run."""
    task, mesh, placement, train = experiment.task, experiment.mesh, experiment.placement, experiment.config.train
    device, n = mesh.devices.flat[0], jax.process_count()
    n_params = sum(x.size for x in jax.tree.leaves(params))
    kind = "a pair of sides" if task.pair else task.score.kind
    system = f"{task.name} ({', '.join(filter(None, (task.summary, kind)))}): {n_params:,} parameters"
    lines = [
        f"demjax {demjax.__version__} | {f'{n} processes' if n > 1 else '1 process'} | "
        f"{mesh.size} x {device.device_kind} ({device.platform})",
        *experiment.dataset.summary().splitlines(),
        *task.notes(experiment.dataset),
    ]
    if experiment.rows is None:
        return [*lines, f"{system} in closed form"]
    if placement.total_bytes > SHOWN_BYTES or placement.kind != "replicated":
        lines.append(placement.summary(mesh))
    return [
        *lines,
        f"{system}; batches of {experiment.batch_size} {experiment.rows.noun}, {experiment.steps_per_epoch} steps an "
        f"epoch, {train.epochs} epochs",
    ]
