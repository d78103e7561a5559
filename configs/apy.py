r"""Attribute Pascal and Yahoo (aPY): 20 seen and 12 unseen objects, 64 attributes.

    python -m demjax.main --config=configs/apy.py --workdir=runs/apy --config.data.dir=FOLDER

FOLDER holds res101.mat and att_splits.mat. The setting is the one selected on the validation classes of CUB; it has
not been selected on aPY, whose features were not at hand. With them, this does it, without any test image:

    python -m demjax.main --config=configs/apy.py --mode=select --config.train.epochs=20 --workdir=runs/apy-select \
        --config.data.dir=FOLDER

`:released` are the hyper-parameters of the authors' script.
"""

from demjax.train.config import default_config, variant


def get_config(arg=""):
    config = default_config()
    config.data.name = "APY"
    return variant(config, arg, {"released": released})


def released(config):
    """The script `aPY_GBU.py` of the authors, setting by setting; 1,000,680 updates."""
    config.data.semantics = "original_att"
    config.task.update(
        score="euclidean", loss_form="released", l2=1e-4, semantics_scale="none", hidden=1600, init="released"
    )
    config.train.update(batching="examples", batch_size=64, passes_per_epoch=10, epochs=1076)
    config.optimizer.update(name="adam", learning_rate=1e-4, schedule="constant")
    config.train.checkpoint_every = 10
    config.evaluate.every = 1  # as the script does: about every 1000 updates, on the test set
