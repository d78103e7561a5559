r"""CUB-200-2011 described in sentences: DEM's bidirectional LSTM, trained end to end.

    python -m demjax.main --config=configs/cub_text.py --workdir=runs/cub-text --config.data.dir=FOLDER \
        --config.data.descriptions=wikipedia.jsonl
    python -m demjax.main --config=configs/cub_text.py:fused --workdir=runs/cub-text-fused --config.data.dir=FOLDER

FOLDER holds res101.mat (another file by --config.data.features=vgg19) and att_splits.mat. The descriptions are a file
of lines {"class": name, "text": ...}, or `generated`: captions that list attributes of the class table, no sentences
that anybody wrote. `:fused` sets the attributes beside the sentence.
"""

from demjax.train.config import default_config, variant


def get_config(arg=""):
    config = default_config("dem_text")
    config.data.update(name="CUB", descriptions="generated")
    config.train.update(batching="examples", batch_size=64, passes_per_epoch=1, epochs=10)
    config.optimizer.update(name="adam", learning_rate=1e-4, clip_norm=10.0)
    config.select.grid = (("optimizer.learning_rate", (1e-4, 3e-4)), ("task.l2", (1e-4, 1e-2)))
    return variant(config, arg, {"fused": fused, "small": small})


def fused(config):
    """Attributes and sentence together."""
    config.task.update(fused=True, hidden=900)


def small(config):
    """A quarter of the units, for two CPU cores; a forget gate that keeps a sentence whole from the start."""
    config.task.update(embedding=128, units=128, forget_bias=5.0)
    config.train.epochs = 24
    config.optimizer.update(learning_rate=1e-3, schedule="cosine")
