"""Optimisers and schedules by name; all of them optax's. Groups of parameters that begin to train later."""

from collections.abc import Iterable

import optax

from demjax.checks import UserError, choose
from demjax.tasks import Groups

OPTIMIZERS = {
    "adam": lambda rate, momentum, decay: _with_l2(optax.adam(rate), decay),
    "adamw": lambda rate, momentum, decay: optax.adamw(rate, weight_decay=decay),
    "sgd": lambda rate, momentum, decay: _with_l2(optax.sgd(rate, momentum=momentum or None), decay),
    # As Torch and PyTorch have it: 0.99, and epsilon outside the root.
    "rmsprop": lambda rate, momentum, decay: _with_l2(optax.rmsprop(rate, decay=0.99, eps_in_sqrt=False), decay),
}

# (peak, steps, steps of one pass, decay) -> schedule
SCHEDULES = {
    "constant": lambda peak, steps, a_pass, decay: optax.constant_schedule(peak),
    "cosine": lambda peak, steps, a_pass, decay: optax.cosine_decay_schedule(peak, steps),
    "linear": lambda peak, steps, a_pass, decay: optax.linear_schedule(peak, 0.0, steps),
    "step": lambda peak, steps, a_pass, decay: optax.piecewise_constant_schedule(peak, {steps // 2: 0.1}),
    "exponential": lambda peak, steps, a_pass, decay: optax.exponential_decay(peak, a_pass, decay, staircase=True),
}


def _with_l2(update: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Weight decay as PyTorch's Adam and SGD mean it: decay * w joins the gradient before anything else."""
    return optax.chain(optax.add_decayed_weights(decay), update) if decay else update


def make_schedule(
    learning_rate: float,
    schedule: str,
    warmup_steps: int,
    total_steps: int,
    steps_per_pass: int = 1,
    decay: float = 1.0,
) -> optax.Schedule:
    """Linear warm-up from 0 over `warmup_steps`, then the named schedule until `total_steps`.

    `exponential` multiplies the rate by `decay` after every pass over the rows.
    """
    named = choose("optimizer.schedule", schedule, SCHEDULES)
    after = named(learning_rate, max(1, total_steps - warmup_steps), max(1, steps_per_pass), decay)
    if not warmup_steps:
        return after
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, after], [warmup_steps])


def make_optimizer(
    *,
    name: str,
    learning_rate: float,
    total_steps: int,
    steps_per_pass: int = 1,
    schedule: str = "constant",
    decay: float = 1.0,
    warmup_steps: int = 0,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
    groups: Groups | None = None,
    names: Iterable[str] = (),
    frozen: frozenset[str] = frozenset(),
) -> optax.GradientTransformation:
    """The optax chain: clip the whole gradient (if `clip_norm` > 0), then the named optimiser on its schedule.

    With `groups`, whose `names` are all there are, each group has an optimiser of its own; the moments of a `frozen`
    one stay as they are, and the schedule is that of the run. Its state has one form whatever is frozen.
    """
    rate = make_schedule(learning_rate, schedule, warmup_steps, total_steps, steps_per_pass, decay)
    make = choose("optimizer.name", name, OPTIMIZERS)
    if groups is None:
        update = make(rate, momentum, weight_decay)
    else:
        unit = {g: make(groups.rate.get(g, 1.0), momentum, weight_decay) for g in names}
        parts = {g: _idle(tx) if g in frozen else tx for g, tx in unit.items()}
        update = optax.chain(optax.partition(parts, groups.label), optax.scale_by_schedule(rate))
    return optax.chain(optax.clip_by_global_norm(clip_norm), update) if clip_norm else update


def _idle(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimiser of parameters that do not train yet: its state is there, and stays as it began."""
    return optax.GradientTransformation(
        optimizer.init, lambda updates, state, params=None: (optax.tree.zeros_like(updates), state)
    )


def check_groups(groups: Groups, names: Iterable[str]) -> None:
    """Raises a UserError for a group that is named but labels no parameter, or begins before epoch 0."""
    names = set(names)
    if unknown := sorted({*groups.start, *groups.rate} - names):
        raise UserError(f"the groups of the task name {unknown[0]!r}: expected {', '.join(sorted(names))}")
    for group, epoch in groups.start.items():
        if not isinstance(epoch, int) or epoch < 0:
            raise UserError(f"group {group!r} begins in epoch {epoch!r}: expected a whole number, 0 or more")


def frozen_in(groups: Groups | None, epoch: int) -> frozenset[str]:
    """The groups that do not train yet in epoch number `epoch` from 0."""
    return frozenset(g for g, start in groups.start.items() if start > epoch) if groups else frozenset()
