"""A planted set with a known best answer: the first run, without any download.

python -m demjax.main --config=configs/synthetic.py
"""

from demjax.train.config import default_config


def get_config(arg=""):
    config = default_config()
    config.data.name = "planted"
    config.train.batching = "class_sums"
    config.train.batch_size = 0
    config.train.passes_per_epoch = 50
    config.task.score = "euclidean"
    config.model.hidden = 512
    return config
