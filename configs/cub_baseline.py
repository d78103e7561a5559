r"""Baselines of zero-shot learning on CUB-200-2011, on the same footing as DEM: one name each.

    python -m demjax.main --config=configs/cub_baseline.py:eszsl --workdir=runs/eszsl --config.data.dir=FOLDER
    python -m demjax.main --config=configs/cub_baseline.py:eszsl --workdir=runs/eszsl-select --mode=select \
        --config.data.dir=FOLDER

FOLDER holds res101.mat (another file by --config.data.features=vgg19) and att_splits.mat. The files in demjax/tasks
have the equations; the grids below are what --mode=select tries on validation classes.
"""

from demjax.checks import choose
from demjax.train.config import default_config, quick

LAMBDAS = tuple(10.0**p for p in range(-3, 7))
SCALES = ("task.features_scale", ("none", "unit"))

# name: (task, settings, grid)
CLOSED = {
    "ridge": ("ridge", {}, (("task.l2", LAMBDAS), SCALES)),
    "ridge_to_semantic": ("ridge", {"direction": "visual->semantic"}, (("task.l2", LAMBDAS), SCALES)),
    "eszsl": (
        "eszsl",
        {},
        (
            ("task.alpha", (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)),
            ("task.gamma", (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0)),
            SCALES,
        ),
    ),
    "sae": ("sae", {}, (("task.l2", LAMBDAS),)),
    "sae_to_semantic": ("sae", {"direction": "visual->semantic"}, (("task.l2", LAMBDAS),)),
    "amp": (
        "amp",
        {},
        (("task.l2", (0.1, 1.0, 10.0, 100.0)), ("task.neighbours", (5, 10)), ("task.bandwidth", (0.1, 0.3))),
    ),
}


RATES = ("optimizer.learning_rate", (3e-4, 1e-3, 3e-3))
MARGINS = ("task.margin", (0.05, 0.2))
WEIGHTS = ("optimizer.weight_decay", (0.0, 1e-5, 1e-4))

TRAINED = {
    "sje": (RATES, MARGINS),
    "devise": (RATES, MARGINS),
    "ale": (RATES, MARGINS),
    "latem": (RATES, MARGINS),
    "conse": (RATES, WEIGHTS),
    "iap": (RATES, WEIGHTS),
    "dap": (RATES, WEIGHTS),
    "cmt": (RATES, ("task.semantics_scale", ("unit", "sqrt"))),
    "ba": (RATES, WEIGHTS),
    "cvc": (("optimizer.learning_rate", (1e-4, 3e-4, 1e-3)), WEIGHTS),
    "sync": (RATES, ("task.gamma", (0.5, 2.0, 8.0))),
    "sse": (("optimizer.learning_rate", (1e-3, 3e-3)), ("task.gamma", (0.01, 0.1))),
}


def get_config(arg=""):
    name = "eszsl" if arg in ("", "quick") else arg
    choose("config argument", name, CLOSED | TRAINED)
    task, settings, grid = CLOSED.get(name) or (name, {}, TRAINED[name])
    config = default_config(task)
    config.data.name = "CUB"
    config.task.update(settings)
    config.train.update(batching="examples", batch_size=256, passes_per_epoch=2, epochs=1 if name in CLOSED else 10)
    config.optimizer.learning_rate = 1e-3
    config.select.update(grid=grid, seeds=1, objective="zsl/top1" if task == "amp" else "gzsl/best_harmonic")
    if arg == "quick":
        quick(config)
    return config
