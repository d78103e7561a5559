r"""Baselines of zero-shot learning on CUB-200-2011, on the same footing as DEM: one name each.

    python -m demjax.main --config=configs/cub_baseline.py:eszsl --mode=select --workdir=runs/eszsl-select \
        --config.data.dir=FOLDER
    python -m demjax.main --config=configs/cub_baseline.py:eszsl --workdir=runs/eszsl --config.data.dir=FOLDER

FOLDER holds res101.mat (another file by --config.data.features=vgg19) and att_splits.mat. The files in demjax/tasks
have the equations; the grids below are what --mode=select tries on validation classes.
"""

from demjax.checks import choose
from demjax.train.config import default_config, quick

LAMBDAS = ("task.l2", tuple(10.0**p for p in range(-3, 7)))
SCALES = ("task.features_scale", ("none", "unit"))
RATES = ("optimizer.learning_rate", (3e-4, 1e-3, 3e-3))
HIGH_RATES = ("optimizer.learning_rate", (3e-3, 1e-2, 3e-2))  # of logistic regression on images of length 1
MARGINS = ("task.margin", (0.05, 0.2))
DECAYS = ("optimizer.weight_decay", (0.0, 1e-5, 1e-4))
TO_SEMANTIC = {"direction": "visual->semantic"}

# name: (task, settings, grid); the first six have a closed form
BASELINES = {
    "ridge": ("ridge", {}, (LAMBDAS, SCALES)),
    "ridge_to_semantic": ("ridge", TO_SEMANTIC, (LAMBDAS, SCALES)),
    "eszsl": ("eszsl", {}, (("task.alpha", (-1, 0, 1, 2, 3, 4, 5)), ("task.gamma", (-3, -2, -1, 0, 1, 2)), SCALES)),
    "sae": ("sae", {}, (LAMBDAS,)),
    "sae_to_semantic": ("sae", TO_SEMANTIC, (LAMBDAS,)),
    "amp": ("amp", {}, (LAMBDAS, ("task.neighbours", (5, 10)), ("task.bandwidth", (0.1, 0.3)))),
    "sje": ("sje", {}, (RATES, MARGINS)),
    "devise": ("devise", {}, (RATES, MARGINS)),
    "ale": ("ale", {}, (RATES, MARGINS)),
    "latem": ("latem", {}, (RATES, MARGINS)),
    "conse": ("conse", {}, (HIGH_RATES, DECAYS)),
    "iap": ("iap", {}, (HIGH_RATES, DECAYS)),
    "dap": ("dap", {}, (HIGH_RATES, DECAYS)),
    "cmt": ("cmt", {}, (RATES, ("task.semantics_scale", ("unit", "sqrt")))),
    "ba": ("ba", {}, (RATES, DECAYS)),
    "cvc": ("cvc", {}, (("optimizer.learning_rate", (1e-4, 3e-4, 1e-3)), DECAYS)),
    "sync": ("sync", {}, (HIGH_RATES, ("task.gamma", (0.25, 1.0, 4.0, 16.0)), ("task.l2", (1e-7, 1e-5, 1e-3)))),
    "sse": ("sse", {}, (("optimizer.learning_rate", (1e-3, 3e-3)), ("task.gamma", (0.01, 0.1)))),
}
# Their H without calibration is next to nothing, and best where they have learned least: they are chosen by AUSUC.
UNBALANCED = ("conse", "iap", "dap", "cmt", "sse", "sync")


def get_config(arg=""):
    task, settings, grid = choose("config argument", "eszsl" if arg in ("", "quick") else arg, BASELINES)
    config = default_config(task)
    config.data.name = "CUB"
    config.task.update(settings)
    config.train.update(batching="examples", batch_size=256, passes_per_epoch=2, epochs=10)
    config.optimizer.learning_rate = 1e-3
    objective = "zsl/top1" if task == "amp" else "gzsl/ausuc" if task in UNBALANCED else "gzsl/harmonic"
    config.select.update(grid=grid, seeds=1, objective=objective)
    if arg == "quick":
        quick(config)
    return config
