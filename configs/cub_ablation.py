r"""The ablations of the DEM paper on CUB-200-2011: the other direction, the other loss.

    python -m demjax.main --config=configs/cub_ablation.py:hinge --mode=select --workdir=runs/hinge-select \
        --config.data.dir=FOLDER
    python -m demjax.main --config=configs/cub_ablation.py:hinge --workdir=runs/hinge --config.data.dir=FOLDER

FOLDER holds res101.mat (another file by --config.data.features=vgg19) and att_splits.mat. `:hinge` trains DEM by
ranking, `:to_semantic` (the default) carries images into the semantic space, `:to_semantic_hinge` does both. The paper
does not give the margin: it is selected on validation classes, with the rest.
"""

from demjax.train.config import default_config, variant

RATES = ("optimizer.learning_rate", (1e-4, 1e-3))


def get_config(arg=""):
    config = default_config()
    config.data.name = "CUB"
    config.train.update(batching="examples", batch_size=256, passes_per_epoch=2, epochs=10)
    config.select.seeds = 1
    if arg in ("", "quick"):
        to_semantic(config)
    forms = {"hinge": hinge, "to_semantic": to_semantic, "to_semantic_hinge": to_semantic_hinge}
    return variant(config, arg, forms)


def hinge(config):
    """The ranking loss over the seen classes, in the visual space."""
    config.task.update(loss="hinge", l2=1e-3)
    config.select.grid = (("task.margin", (1.0, 10.0, 100.0)), ("task.l2", (1e-4, 1e-2)), RATES)


def to_semantic(config):
    """Least squares in the semantic space."""
    config.task.update(direction="visual->semantic", l2=1e-4)
    config.select.grid = (("task.l2", (1e-6, 1e-5, 1e-4, 1e-3)), ("task.score", ("cosine", "euclidean")), RATES)


def to_semantic_hinge(config):
    """Both changes."""
    to_semantic(config)
    config.task.loss = "hinge"
    config.select.grid = (("task.margin", (0.1, 1.0, 10.0)), ("task.l2", (1e-6, 1e-4)), RATES)
