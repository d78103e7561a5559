"""demjax COMMAND ...: zero-shot learning in JAX.

commands:
  train      train a run, or resume it, and evaluate it; --mode=best selects its setting first
  evaluate   evaluate the newest checkpoint of a run as it is
  select     try the grid of a config on validation classes
  tables     mean and standard deviation over seeds; run a suite of methods
  encode     vectors of captions and classes, from a run that reads sentences
  hubness    measure hubness of any vectors, and what a correction does to it

`demjax COMMAND --help` explains a command. To begin, without data: demjax train --config=configs/synthetic.py
"""

import importlib
import sys
from collections.abc import Sequence

import demjax
from demjax.checks import did_you_mean

# command -> module with `run`, and its arguments
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "train": ("demjax.cli.train", ()),
    "evaluate": ("demjax.cli.train", ("eval",)),
    "select": ("demjax.cli.train", ("select",)),
    "tables": ("demjax.cli.tables", ()),
    "encode": ("demjax.cli.encode", ()),
    "hubness": ("demjax.cli.hubness", ()),
}


def run(argv: Sequence[str] | None = None) -> None:
    """Runs a command; exits with its status, or with 2 for a command that does not exist."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(__doc__.strip())
        sys.exit(0)
    if arguments[0] == "--version":
        print(f"demjax {demjax.__version__}")
        sys.exit(0)
    name = arguments[0]
    if name not in COMMANDS:
        print(f"demjax: error: there is no command {name!r}: {did_you_mean(name, COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    module, extra = COMMANDS[name]
    sys.argv = [f"demjax {name}", *arguments[1:]]  # the commands read it as if they were called alone
    importlib.import_module(module).run(*extra)
