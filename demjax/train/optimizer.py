"""Optimisers and schedules by name; all of them optax's."""

import optax

from demjax.checks import choose

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
) -> optax.GradientTransformation:
    """The optax chain: clip (if `clip_norm` > 0), then the named optimiser on its schedule."""
    rate = make_schedule(learning_rate, schedule, warmup_steps, total_steps, steps_per_pass, decay)
    update = choose("optimizer.name", name, OPTIMIZERS)(rate, momentum, weight_decay)
    return optax.chain(optax.clip_by_global_norm(clip_norm), update) if clip_norm else update
