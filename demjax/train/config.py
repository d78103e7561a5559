"""Every setting there is, with its default, and the checks of those that only the engine knows."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from demjax import user_code
from demjax.checks import UserError, choose, did_you_mean, in_range
from demjax.protocols import default_options
from demjax.tasks import settings_of

# Settings that say where things lie, what is kept or printed: they may change between a run and its resumption.
FREE_KEYS = (
    *("data.dir", "data.descriptions", "task.word_vectors"),  # what they hold has fingerprints
    "train.placement",  # a checkpoint knows whether its rows were streamed
    *("profile", "log.tensorboard", "evaluate.query_batch", "train.keep_checkpoints", "train.checkpoint_minutes"),
)
FREE_SECTIONS = ("select.",)  # what another mode reads


def is_free(key: str) -> bool:
    """Whether a setting may change between a run and its resumption."""
    return key in FREE_KEYS or key.startswith(FREE_SECTIONS)


def default_config(task: str = "dem") -> ConfigDict:
    """All settings of a task. A file in configs/ calls this and changes what its row needs; nothing else is read.

    The values are those selected for DEM on the validation classes of CUB (configs/cub.py has the command).
    """
    config = ConfigDict()
    config.seed = 0  # of initialisation and batch order; data have another
    config.deterministic = False  # on GPUs: kernels that give the same bits every time, slower ones; elsewhere always
    config.profile = ""  # a folder for a trace of some calls: TensorBoard's profile plugin or ui.perfetto.dev show it

    config.data = ConfigDict()
    config.data.name = "CUB"  # CUB AWA1 AWA2 SUN APY, another name for your files, planted, or FILE.py:NAME
    config.data.dir = ""  # folder with the .mat files; empty: TFDS manual folder, then the download
    config.data.features = "res101"  # reads res101.mat
    config.data.semantics = "att"  # att | original_att of att_splits.mat, or sent: sent_splits.mat ...
    config.data.split = "auto"  # auto, or the version the split file must be: ps1 | ps2; TRAIN/TEST: two class lists
    config.data.descriptions = ""  # captions: a folder of .txt, a .csv, .json or .jsonl file; or generated
    config.data.fold = "test"  # test, or val (val2, val3): a view of trainval in which no test image exists
    config.data.planted = planted = ConfigDict()  # used by name = planted: see data/sources/planted.py
    planted.n_classes = 100
    planted.n_unseen = 25
    planted.n_attributes = 16
    planted.n_features = 128
    planted.images_per_class = 30
    planted.noise = 1.0
    planted.hubness = 0.3
    planted.seed = 0

    config.task = ConfigDict({"name": task} | settings_of(task))  # the file in tasks/ says what each setting means

    config.train = ConfigDict()
    config.train.epochs = 8  # one compiled call, one progress line and, at most, one checkpoint each
    config.train.passes_per_epoch = 50  # over the rows
    # auto: the first that the task names; class_sums: exact full-batch gradient from one row per class | examples |
    # classes: different ones in every step, and an image of each
    config.train.batching = "auto"
    config.train.batch_size = 0  # rows a step; 0: all rows
    config.train.placement = "auto"  # replicated | sharded | streamed, by size (train/engine/placement.py)
    config.train.chunk_rows = 0  # streamed at once; 0: 256 MiB of them
    config.train.precision = "highest"  # of matrix products: highest | high | default
    config.train.checkpoint_every = 1  # epochs; the last one is always saved
    config.train.checkpoint_minutes = 0.0  # also after so many; 0: off
    config.train.keep_checkpoints = 3

    _add_optimizer(config)
    _add_evaluation(config)
    _add_searches(config)
    config.log = ConfigDict()
    config.log.tensorboard = True  # where tensorboardX is installed
    return config


def _add_optimizer(config: ConfigDict) -> None:
    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"  # adam | adamw | sgd | rmsprop
    config.optimizer.learning_rate = 3e-3
    # constant | cosine | linear (to zero at the last step) | step (a tenth from the middle on) | exponential
    config.optimizer.schedule = "constant"
    config.optimizer.decay = 1.0  # of the schedule exponential: factor after every pass over the rows, in (0, 1]
    config.optimizer.warmup_steps = 0
    config.optimizer.momentum = 0.0  # sgd only
    config.optimizer.weight_decay = 0.0  # L2: added to the gradient; with adamw taken off the weights
    config.optimizer.clip_norm = 0.0  # of the whole gradient; 0: off


def _add_evaluation(config: ConfigDict) -> None:
    config.evaluate = ConfigDict()
    config.evaluate.every = 0  # epochs between evaluations on the way; 0: at the end only
    config.evaluate.query_batch = 4096  # images embedded at once
    # also with the options that a second run finds on validation classes, such as a penalty on seen classes
    config.evaluate.calibrate = False
    config.evaluate.correction = ""  # also hub-corrected (train/evaluate.py), bank: training images; csls ... or auto
    # Of the protocols, which say what each means (demjax/protocols): hits = (1, 5): hit@k of unseen images too; ties of
    # hit@k: lowest_id | pessimistic; captions = (1, 5): T1 with so many random captions of each class
    config.evaluate.update(default_options())


def _add_searches(config: ConfigDict) -> None:
    config.select = ConfigDict()  # --mode=select: which settings do best on validation classes
    config.select.grid = (  # all combinations
        ("task.l2", (0.02, 0.1, 0.3)),
        ("task.score", ("cosine", "euclidean")),
        ("optimizer.learning_rate", (1e-3, 3e-3)),
    )
    config.select.samples = 0  # some of the combinations, drawn at random; 0: all of them
    config.select.folds = 1  # of held-out classes, 1 to 3; results are averaged
    config.select.objective = "auto"  # a metric of the protocols; auto: the usual one of the task
    config.select.seeds = 3

    config.population = ConfigDict()  # every setting with every seed as one program (sweep/population.py)
    config.population.seeds = 0  # 0: off, a single run with config.seed
    config.population.settings = ()  # ((key, (value, ...)), ...): optimizer.learning_rate and numbers of the loss
    # or, in a config file, by their last names: config.population = dict(seeds=5, learning_rate=(1e-3, 3e-3))


def variant(config: ConfigDict, arg: str, variants: dict[str, Callable[[ConfigDict], None]]) -> ConfigDict:
    """The config of FILE.py (as it is) or FILE.py:arg (changed by the function of that name, or by `quick`)."""
    if arg:
        choose("config argument", arg, {"quick": quick} | variants)(config)
    return config


def quick(config: ConfigDict) -> None:
    """Seconds on a small planted set: does everything run? Says nothing about accuracy."""
    config.data.name, config.data.fold = "planted", "test"
    config.data.planted.update(n_classes=20, n_unseen=5, n_attributes=8, n_features=32, images_per_class=10)
    for key, size in (("hidden", 64), ("embedding", 8), ("units", 8), ("width", 0.05)):
        if key in config.task:
            config.task[key] = size
    config.train.update(epochs=3, passes_per_epoch=2, checkpoint_every=1)
    config.train.batch_size = min(config.train.batch_size, 10 if config.train.batching == "classes" else 32)
    config.select.grid = tuple((key, values[:2]) for key, values in config.select.grid[:1])
    config.select.seeds = 1
    config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, 2)


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """{"train.epochs": 20, ...}."""
    flat: dict[str, Any] = {}
    for key in sorted(config.keys()):
        value = config[key]
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else {prefix + key: value}
    return flat


def counting(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as two runs are compared by them: of FILE.py:NAME the name alone, as the file itself is compared."""
    files = {
        k: flat[k].rpartition(":")[2] for k in ("task.name", "data.name") if user_code.is_reference(str(flat.get(k)))
    }
    return {**flat, **files}


def config_hash(config: ConfigDict) -> str:
    """12 hex digits over all settings that can change a result."""
    flat = {k: v for k, v in counting(flatten(config)).items() if not is_free(k)}
    return hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()[:12]


def check_config(config: ConfigDict) -> None:
    """Refuses unknown keys and the values the engine reads itself; tasks and data check theirs.

    Raises:
      UserError: names the key, what it holds and what it may hold.
    """
    known = flatten(default_config(config.task.name))
    for key in flatten(config):
        if key not in known:
            raise UserError(f"config has an unknown key {key!r}: {did_you_mean(key, known)}")
    missing = sorted(known.keys() - flatten(config).keys())
    if missing:
        raise UserError(f"config lacks {missing[0]!r}: start from demjax.train.config.default_config()")
    choose("train.precision", config.train.precision, dict.fromkeys(("highest", "high", "default")))
    for key, low, open_low in (
        ("train.epochs", 1, False),
        ("train.passes_per_epoch", 1, False),
        ("train.batch_size", 0, False),
        ("train.chunk_rows", 0, False),
        ("train.checkpoint_every", 1, False),
        ("train.checkpoint_minutes", 0, False),
        ("train.keep_checkpoints", 1, False),
        ("optimizer.learning_rate", 0, True),
        ("optimizer.warmup_steps", 0, False),
        ("optimizer.momentum", 0, False),
        ("optimizer.weight_decay", 0, False),
        ("optimizer.clip_norm", 0, False),
        ("evaluate.every", 0, False),
        ("evaluate.query_batch", 1, False),
        ("select.seeds", 1, False),
        ("select.samples", 0, False),
        ("population.seeds", 0, False),
    ):
        in_range(key, flatten(config)[key], low, open_low=open_low)
    in_range("optimizer.decay", config.optimizer.decay, 0, 1, open_low=True)
    in_range("select.folds", config.select.folds, 1, 3)
    in_range("seed", config.seed, 0, 2**32 - 1)  # a key has 32 bits: a larger seed would repeat a smaller one
