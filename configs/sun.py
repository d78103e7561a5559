r"""SUN attributes: 645 seen and 72 unseen scenes, 102 attributes.

    python -m demjax.main --config=configs/sun.py --workdir=runs/sun --config.data.dir=FOLDER

FOLDER holds res101.mat and att_splits.mat. The setting is the one selected on the validation classes of CUB; it has
not been selected on SUN, whose features were not at hand. With them, this does it, without any test image:

    python -m demjax.main --config=configs/sun.py --mode=select --config.train.epochs=20 --workdir=runs/sun-select \
        --config.data.dir=FOLDER

`:released` are the hyper-parameters of the authors' script.
"""

from demjax.train.config import default_config, variant


def get_config(arg=""):
    config = default_config()
    config.data.name = "SUN"
    return variant(config, arg, {"released": released})


def released(config):
    """The script `SUN_GBU.py` of the authors, setting by setting; 1,000,188 updates."""
    config.data.semantics = "original_att"
    config.task.update(
        score="euclidean", loss_form="released", l2=1e-5, semantics_scale="none", hidden=1600, init="released"
    )
    config.train.update(batching="examples", batch_size=64, passes_per_epoch=6, epochs=1029)
    config.optimizer.update(name="adam", learning_rate=1e-4, schedule="constant")
    config.train.checkpoint_every = 10
    config.evaluate.every = 1  # as the script does: about every 1000 updates, on the test set
