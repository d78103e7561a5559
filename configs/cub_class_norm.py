r"""CUB-200-2011 with class-normalised DEM: a scaled cosine softmax over the seen classes.

    python -m demjax.main --config=configs/cub_class_norm.py --workdir=runs/cub-cn --config.data.dir=FOLDER

FOLDER holds res101.mat (another file by --config.data.features=vgg19) and att_splits.mat. The hyper-parameters are
those of the authors' notebook, but for batches of 64 instead of 256 images, 10 passes instead of 50, and two
regularisers that are not theirs: all selected on validation classes (--mode=select). Variants, the rungs of the ladder:
`:paper` is without the two regularisers; `:mlp` is the paper's network without its three steps, with the switches
task.semantics_scale, task.divide_by, task.output_init. `:fused` has sentences (sent_splits.mat) beside the attributes.
"""

from demjax.train.config import default_config, variant


def get_config(arg=""):
    config = default_config("class_norm")
    config.data.name = "CUB"
    config.train.update(batching="examples", batch_size=64, passes_per_epoch=2, epochs=5)
    config.optimizer.update(name="adam", learning_rate=5e-4, schedule="step", weight_decay=1e-4)
    config.task.update(semantics_dropout=0.1, features_power=0.5)
    config.select.objective = "gzsl/ausuc"
    config.select.grid = (
        ("task.semantics_dropout", (0.0, 0.1, 0.2)),
        ("task.features_power", (1.0, 0.75, 0.5)),
    )
    return variant(config, arg, {"paper": paper, "mlp": mlp, "fused": fused})


def fused(config):
    """Attributes and sentences side by side, the attributes with a weight that is selected."""
    config.data.semantics = "att+sent"
    config.select.update(seeds=1, grid=(("task.source_weights", ((0.1, 1.0), (0.3, 1.0), (1.0, 1.0))),))


def paper(config):
    """Class normalisation as published: no dropout, features as they are."""
    config.task.update(semantics_dropout=0.0, features_power=1.0)


def mlp(config):
    """The ladder's second rung: the same network and loss without attribute norm, standardisation and output init."""
    paper(config)
    config.task.update(semantics_scale="unit", divide_by="none", output_init="default")
