"""Train and evaluate a zero-shot model.

  python -m demjax.main --config=configs/synthetic.py             no data needed, under a minute
  python -m demjax.main --config=configs/cub.py --workdir=runs/cub --config.data.dir=FOLDER
  python -m demjax.main --config=configs/cub.py:released           the released scripts' settings
  python -m demjax.main --config=configs/cub.py:quick              seconds, on a planted set
  python -m demjax.main --config=configs/cub.py --config.seed=1 --config.optimizer.learning_rate=3e-4

FOLDER holds res101.mat (or another, by --config.data.features) and att_splits.mat. The same command again
resumes a run that was stopped; a finished one is evaluated again. SIGTERM and Ctrl-C save first. The
workdir gets config.json, metrics.jsonl, checkpoints/ and report.json; all settings, with what they mean,
stand in demjax/train/config.py. `python -m demjax.tables runs/a runs/b ...` prints mean and std over seeds.
"""

import os
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from demjax.checks import UserError, did_you_mean
from demjax.train.config import default_config, flatten, spelled_out
from demjax.train.door import exit_status

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"  # read when JAX starts

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, FILE.py or FILE.py:argument; change any setting with --config.section.name=value."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of this run: made, or resumed. Default: runs/ and the name of the config."
)
_DISTRIBUTED = flags.DEFINE_enum(
    "distributed",
    "auto",
    ["auto", "on", "off"],
    "Several processes as one program. auto: where the three flags below are given, or on a TPU slice, in a Slurm "
    "step, an indexed Kubernetes job or Open MPI of several tasks. launch/ has scripts for all of these.",
)
_COORDINATOR = flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0, the same in every process.")
_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
_PROCESS = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval", "select", "best"],
    "train: to the last epoch, then evaluate. eval: the newest checkpoint as it is. "
    "select: try config.select.grid on validation classes, never on test images. "
    "best: select, then train the winner on all of trainval.",
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}: settings are --config.section.name=value")
    if _CONFIG.value is None:
        raise UserError("--config is missing: try --config=configs/synthetic.py, or --help")
    config = spelled_out(_CONFIG.value)
    workdir = _WORKDIR.value or f"runs/{_default_name()}"
    if config.get("deterministic"):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()
    from demjax import processes

    address = processes.Address(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    if joined := processes.join(_DISTRIBUTED.value, address):
        print(joined, flush=True)
        _check_together(_MODE.value, config)
    from demjax.train.loop import train_and_evaluate  # JAX starts here, not for --help
    from demjax.train.population import train_population
    from demjax.train.select import select, select_and_train

    if _MODE.value in ("select", "best"):
        (select if _MODE.value == "select" else select_and_train)(config, workdir)
    elif config.population.seeds:
        if _MODE.value == "eval":
            raise UserError("--mode=eval with population.seeds: the command without --mode evaluates all members again")
        train_population(config, workdir)
    else:
        train_and_evaluate(config, workdir, train=_MODE.value == "train")


def _check_together(mode: str, config: ConfigDict) -> None:
    """What many runs do, they do better beside each other than on the same mesh."""
    for what, chosen in ((f"--mode={mode}", mode in ("select", "best")), ("population.seeds", config.population.seeds)):
        if chosen:
            raise UserError(
                f"{what} in several processes: expected one, --distributed=off, or plain runs of --mode=train"
            )


def _default_name() -> str:
    path, _, argument = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return Path(path).stem + (f"-{argument}" if argument else "")


def _parse(argv: list[str]) -> list[str]:
    """Flags; a mistake in them becomes one line that names the nearest right thing."""
    path = _config_path(argv)
    if path and not Path(path).is_file():  # ml_collections would notice only when the first setting is read
        raise UserError(
            f"--config={path}: no such file; the configs of demjax are in configs/, e.g. configs/synthetic.py"
        )
    try:
        return flags.FLAGS(argv)
    except Exception as error:  # ml_collections and user code in a config raise whatever they like
        raise UserError(_flag_mistake(argv, error)) from error


def _config_path(argv: list[str]) -> str:
    """The file of --config=FILE.py:argument or --config FILE.py:argument, as yet unread."""
    for arg, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = arg.lstrip("-").partition("=")
        if arg.startswith("-") and name == "config":
            return (value if equals else following).partition(":")[0]
    return ""


def _flag_mistake(argv: list[str], error: Exception) -> str:
    known = flatten(default_config())
    for arg in argv:
        key = arg.lstrip("-").partition("=")[0].removeprefix("config.")
        if arg.lstrip("-").startswith("config.") and key not in known:
            return f"there is no setting {key!r}: {did_you_mean(key, known)}"
    lines = [line for line in str(error).splitlines() if line.strip()]
    if "Traceback" in str(error):  # raised inside the config file: its last line is the message
        return lines[-1].removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")
    return f"{' '.join(lines)[:300]} (--help explains)"


def run() -> None:
    """The command line: exit status 0 done or safely stopped, 1 a mistake or a failure told in one line."""
    sys.exit(exit_status(lambda: app.run(main, flags_parser=_parse)))


if __name__ == "__main__":
    run()
