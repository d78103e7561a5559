"""A planted set with a known best answer: the first run, without any download.

    python -m demjax.main --config=configs/synthetic.py

Sizes, noise and hubness are settings (--config.data.planted.hubness=0.6 ...); the report prints the Bayes
accuracy of the very test images beside ours.
"""

from demjax.train.config import default_config, variant


def get_config(arg=""):
    config = default_config()
    config.data.name = "planted"
    config.task.update(score="euclidean", l2=0.02)
    config.task.hidden = 512
    config.train.epochs = 20
    config.optimizer.learning_rate = 1e-3
    return variant(config, arg, {})
