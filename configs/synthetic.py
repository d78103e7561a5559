"""A planted set with a known best answer: the first run, without any download.

    python -m demjax.main --config=configs/synthetic.py

Sizes, noise and hubness are settings (--config.data.planted.hubness=0.6 ...); the report prints the Bayes
accuracy of the very test images beside ours.
"""

from demjax.train.config import default_config, variant


def get_config(arg=""):
    config = default_config()
    config.data.name = "planted"
    config.task.update(score="euclidean", loss_form="paper", l2=0.02, semantics_scale="sqrt")
    config.model.update(hidden=512, init="he")
    config.train.update(batching="class_sums", batch_size=0, passes_per_epoch=50, epochs=20)
    config.optimizer.update(name="adam", learning_rate=1e-3, schedule="constant")
    return variant(config, arg, {})
