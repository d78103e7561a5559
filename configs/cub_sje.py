r"""CUB-200-2011 by text: DS-SJE and DA-SJE with every encoder of Reed, Akata, Lee & Schiele 2016.

    python -m demjax.main --config=configs/cub_sje.py:word_cnn_rnn --workdir=runs/sje --config.data.dir=FOLDER \
        --config.data.descriptions=CAPTIONS
    python -m demjax.encode --workdir=runs/sje --out=sje.npz        vectors of the captions and of the classes

FOLDER holds res101.mat (another file by --config.data.features=vgg19) and att_splits.mat; CAPTIONS is a folder of
CLASS/IMAGE.txt, a .csv of class, caption and image, a .json or .jsonl file; or `generated`: captions that list
attributes of the class table, no sentences that anybody wrote. One argument per encoder (demjax/models/text.py lists
them). DA-SJE: --config.task.symmetric=False. The schedule is the published one: 200 passes of as many steps as there
are classes, 40 classes a step, the rate times 0.98 after each; hours on a CPU. `:word_cnn_rnn_short` and so on: 10
passes, for a CPU.
"""

from demjax.models import ENCODERS
from demjax.train.config import default_config, quick, variant

SHORT = "_short"


def get_config(arg=""):
    config = default_config("ds_sje")
    config.data.update(name="CUB", descriptions="generated")
    config.train.update(batching="classes", batch_size=40, passes_per_epoch=10, epochs=20)
    config.optimizer.update(name="rmsprop", learning_rate=7e-4, schedule="exponential", decay=0.98)
    config.evaluate.captions = (1, 5, 10)
    config.select.grid = (("optimizer.learning_rate", (7e-4, 2e-3)), ("task.features_scale", ("none", "unit")))
    encoders = {name + suffix: encoder(name, suffix) for name in ENCODERS for suffix in ("", SHORT)}
    return variant(config, arg, encoders | {"quick": quick_words})


def quick_words(config):
    """Seconds on a small planted set, with the encoder that compiles fastest."""
    quick(config)
    config.task.encoder = "bow"


def encoder(name, suffix):
    """The change of a config to this encoder."""

    def change(config):
        config.task.encoder = name
        if name == "attributes":
            config.evaluate.captions = ()
        if suffix:
            config.train.update(passes_per_epoch=2, epochs=5)

    return change
