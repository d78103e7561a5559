r"""Animals with Attributes 1: 40 seen and 10 unseen animals, 85 attributes.

    python -m demjax.main --config=configs/awa1.py --workdir=runs/awa1 --config.data.dir=FOLDER

FOLDER holds res101.mat and att_splits.mat. The setting is the one selected on the validation classes of CUB; it has
not been selected on AWA1, whose features were not at hand. With them, this does it, without any test image:

    python -m demjax.main --config=configs/awa1.py --mode=select --config.train.epochs=20 --workdir=runs/awa1-select \
        --config.data.dir=FOLDER

`:released` are the hyper-parameters of the authors' script; the content of the renamed attribute file it reads is
not public, `att` is our reading. `:words` and `:fusion` are those of their scripts for word vectors, alone and beside
attributes: att_splits.mat must then also hold a table `wv`, the vectors of your own (theirs: 1000-d, not published).
"""

from demjax.train.config import default_config, variant


def get_config(arg=""):
    config = default_config()
    config.data.name = "AWA1"
    return variant(config, arg, {"released": released, "words": words, "fusion": fusion})


def released(config):
    """The script `AwA1_GBU.py` of the authors, setting by setting; 1,000,680 updates."""
    config.data.semantics = "att"
    config.task.update(
        score="euclidean", loss_form="released", l2=1e-3, semantics_scale="none", hidden=1600, init="released"
    )
    config.train.update(batching="examples", batch_size=64, passes_per_epoch=4, epochs=807)
    config.optimizer.update(name="adam", learning_rate=1e-4, schedule="constant")
    config.train.checkpoint_every = 10
    config.evaluate.every = 1  # as the script does: about every 1000 updates, on the test set


def words(config):
    """The script `AwA_wordvector.py`: no hidden layer, cosine."""
    released(config)
    config.data.semantics = "wv"
    config.task.update(hidden=0, score="cosine")


def fusion(config):
    """The script `AwA_fusion.py`: tanh in every branch, attributes three times, a lambda for every layer."""
    released(config)
    config.data.semantics = "att+wv"
    config.task.update(hidden=900, fusion="released", source_weights=(3.0, 1.0), source_l2=(1e-2, 1e-3), l2=1e-2)
