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

import absl.flags
from absl import app
from ml_collections import ConfigDict, config_flags

from demjax.checks import UserError
from demjax.cli import flags
from demjax.cli.exit import exit_status
from demjax.train.sweep.grid import spelled_out

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"  # read when JAX starts


DOCS = {
    "eval": """Evaluate the newest checkpoint of a run as it is: the command that trained it, with another name.

  demjax evaluate --config=configs/cub.py --workdir=runs/cub --config.data.dir=FOLDER
""",
    "select": """Try the settings of config.select.grid on validation classes; no test image is looked at.

  demjax select --config=configs/cub.py --workdir=runs/cub-select --config.data.dir=FOLDER
""",
}


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}: settings are --config.section.name=value")
    if flags.CONFIG.value is None:
        raise UserError("--config is missing: try --config=configs/synthetic.py, or --help")
    config = spelled_out(flags.CONFIG.value)
    workdir = flags.WORKDIR.value or f"runs/{_default_name()}"
    if config.get("deterministic"):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()
    from demjax import distributed

    address = distributed.Address(flags.COORDINATOR.value, flags.PROCESSES.value, flags.PROCESS.value)
    if joined := distributed.join(flags.DISTRIBUTED.value, address):
        print(joined, flush=True)
        _check_together(flags.MODE.value, config)
    from demjax.train.fit import train_and_evaluate  # JAX starts here, not for --help
    from demjax.train.sweep.population import train_population
    from demjax.train.sweep.select import select, select_and_train

    if flags.MODE.value in ("select", "best"):
        (select if flags.MODE.value == "select" else select_and_train)(config, workdir)
    elif config.population.seeds:
        if flags.MODE.value == "eval":
            raise UserError("--mode=eval with population.seeds: the command without --mode evaluates all members again")
        train_population(config, workdir)
    else:
        train_and_evaluate(config, workdir, train=flags.MODE.value == "train")


def _check_together(mode: str, config: ConfigDict) -> None:
    """What many runs do, they do better beside each other than on the same mesh."""
    for what, chosen in ((f"--mode={mode}", mode in ("select", "best")), ("population.seeds", config.population.seeds)):
        if chosen:
            raise UserError(
                f"{what} in several processes: expected one, --distributed=off, or plain runs of --mode=train"
            )


def _default_name() -> str:
    path, _, argument = config_flags.get_config_filename(absl.flags.FLAGS["config"]).partition(":")
    return Path(path).stem + (f"-{argument}" if argument else "")


def run(mode: str | None = None) -> None:
    """The command line: exit status 0 done or safely stopped, 1 a mistake or a failure, said in one line."""
    sys.modules["__main__"].__doc__ = DOCS.get(mode or "", __doc__)  # what absl shows for --help
    for flag in (flags.CONFIG, flags.WORKDIR, flags.DISTRIBUTED, flags.MODE):
        absl.flags.FLAGS.register_key_flag_for_module(sys.argv[0], absl.flags.FLAGS[flag.name])
    if mode:
        absl.flags.set_default(flags.MODE, mode)
    sys.exit(exit_status(lambda: app.run(main, flags_parser=flags.parse)))
