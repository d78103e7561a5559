"""The flags of training, and mistakes in them as one line that names the nearest right thing."""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from demjax.checks import UserError, did_you_mean
from demjax.train.config import default_config, flatten

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, FILE.py or FILE.py:argument; change any setting with --config.section.name=value."
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of this run: made, or resumed. Default: runs/ and the name of the config."
)
DISTRIBUTED = flags.DEFINE_enum(
    "distributed",
    "auto",
    ["auto", "on", "off"],
    "Several processes as one program. auto: where the three flags below are given, or on a TPU slice, in a Slurm "
    "step, an indexed Kubernetes job or Open MPI of several tasks. launch/ has scripts for all of these.",
)
COORDINATOR = flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0, the same in every process.")
PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
PROCESS = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval", "select", "best"],
    "train: to the last epoch, then evaluate. eval: the newest checkpoint as it is. "
    "select: try config.select.grid on validation classes, never on test images. "
    "best: select, then train the winner on all of trainval.",
)


def parse(argv: list[str]) -> list[str]:
    """Flags; a mistake in them becomes one line that names the nearest right thing."""
    path = config_path(argv)
    if path and not Path(path).is_file():  # ml_collections would notice only when the first setting is read
        raise UserError(
            f"--config={path}: no such file; the configs of demjax are in configs/, e.g. configs/synthetic.py"
        )
    try:
        return flags.FLAGS(argv)
    except Exception as error:  # ml_collections and user code in a config raise whatever they like
        raise UserError(flag_mistake(argv, error)) from error


def config_path(argv: list[str]) -> str:
    """The file of --config=FILE.py:argument or --config FILE.py:argument, as yet unread."""
    for arg, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = arg.lstrip("-").partition("=")
        if arg.startswith("-") and name == "config":
            return (value if equals else following).partition(":")[0]
    return ""


def flag_mistake(argv: list[str], error: Exception) -> str:
    """The message for an error in the flags, in one line."""
    known = flatten(default_config())
    for arg in argv:
        key = arg.lstrip("-").partition("=")[0].removeprefix("config.")
        if arg.lstrip("-").startswith("config.") and key not in known:
            return f"there is no setting {key!r}: {did_you_mean(key, known)}"
    lines = [line for line in str(error).splitlines() if line.strip()]
    if "Traceback" in str(error):  # raised inside the config file: its last line is the message
        return lines[-1].removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")
    return f"{' '.join(lines)[:300]} (--help explains)"
