"""Optimisers and schedules by name; all of them optax's."""

import optax

from demjax.checks import choose

OPTIMIZERS = {
    "adam": lambda rate, momentum, decay: _with_l2(optax.adam(rate), decay),
    "adamw": lambda rate, momentum, decay: optax.adamw(rate, weight_decay=decay),
    "sgd": lambda rate, momentum, decay: _with_l2(optax.sgd(rate, momentum=momentum or None), decay),
    "rmsprop": lambda rate, momentum, decay: _with_l2(optax.rmsprop(rate), decay),
}

SCHEDULES = {
    "constant": lambda peak, steps: optax.constant_schedule(peak),
    "cosine": lambda peak, steps: optax.cosine_decay_schedule(peak, steps),
    "linear": lambda peak, steps: optax.linear_schedule(peak, 0.0, steps),
    "step": lambda peak, steps: optax.piecewise_constant_schedule(peak, {steps // 2: 0.1}),
}


def _with_l2(update: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Weight decay as PyTorch's Adam and SGD mean it: decay * w joins the gradient before anything else."""
    return optax.chain(optax.add_decayed_weights(decay), update) if decay else update


def make_schedule(learning_rate: float, schedule: str, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Linear warm-up from 0 over `warmup_steps`, then the named schedule until `total_steps`."""
    decay = choose("optimizer.schedule", schedule, SCHEDULES)
    after = decay(learning_rate, max(1, total_steps - warmup_steps))
    if not warmup_steps:
        return after
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, after], [warmup_steps])


def make_optimizer(
    *,
    name: str,
    learning_rate: float,
    total_steps: int,
    schedule: str = "constant",
    warmup_steps: int = 0,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """The optax chain: clip (if `clip_norm` > 0), then the named optimiser on its schedule."""
    rate = make_schedule(learning_rate, schedule, warmup_steps, total_steps)
    update = choose("optimizer.name", name, OPTIMIZERS)(rate, momentum, weight_decay)
    return optax.chain(optax.clip_by_global_norm(clip_norm), update) if clip_norm else update
