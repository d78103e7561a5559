"""The command line as a stranger meets it: one line for every mistake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from demjax.checks import UserError
from demjax.cli.flags import config_path, flag_mistake
from tests.waiting import HUNG

ROOT = Path(__file__).parents[2]


def demjax(*args, cwd=ROOT, module="demjax.main"):
    command = [sys.executable, "-m", module, *map(str, args)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=HUNG)


def test_first_command_and_again(tmp_path):
    first = demjax("--config=configs/cub.py:quick", f"--workdir={tmp_path}")
    assert first.returncode == 0, first.stderr
    assert "epoch 3/3" in first.stdout and "T1" in first.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    again = demjax("--config=configs/cub.py:quick", f"--workdir={tmp_path}", "--mode=eval")
    assert again.returncode == 0 and "resuming after epoch 3 of 3" in again.stdout and "epoch 3/3" not in again.stdout
    assert json.loads((tmp_path / "report.json").read_text())["metrics"] == report["metrics"]
    tables = demjax(tmp_path, module="demjax.tables")
    assert tables.returncode == 0 and tables.stdout.count("|---") == 12


MISTAKES = [
    ([], "--config is missing: try --config=configs/synthetic.py"),
    (["--config=nope.py"], "--config=nope.py: no such file"),
    (
        ["--config=configs/cub.py:quick", "--config.population.seeds=2", "--mode=eval"],
        "evaluates all members again",
    ),
    (["--config=configs/cub.py:quik"], "config argument is 'quik': did you mean 'quick'?"),
    (
        ["--config=configs/cub.py", "--config.trian.epochs=3"],
        "no setting 'trian.epochs': did you mean 'train.epochs'?",
    ),
    (
        ["--config=configs/cub.py", "--config.train.epoch=3"],
        "no setting 'train.epoch': did you mean 'train.epochs'?",
    ),
    (["--config=configs/cub.py", "--config.train.epochs=many"], "config.train.epochs=many"),
    (["--config=configs/cub.py", "--mode=trian"], "<train|eval|select|best>"),
    (["--confg=configs/cub.py"], "Did you mean: config"),
    (["--config=configs/cub.py:quick", "extra"], "unexpected argument 'extra'"),
    (["--config=configs/cub.py:quick", "--config.task.hidden=-1"], "task.hidden is -1: expected a whole number >= 0"),
    (["--config=configs/cub.py:quick", "--config.optimizer.learning_rate=-1"], "optimizer.learning_rate is -1.0"),
    (["--config=configs/cub.py", "--config.data.dir=/nowhere"], "/nowhere is not a folder"),
    (["--config=configs/cub.py:quick", "--workdir=/proc/demjax"], "cannot be written to"),
]
# Imports take most of the time of a command that fails: they are done once, and every command is a fork of that.
FORKS = """
import json, os, sys, tempfile
import demjax.main, demjax.train.fit, demjax.train.sweep.population, demjax.train.sweep.select
for argv in json.loads(sys.argv[1]):
    files = [tempfile.TemporaryFile("w+") for _ in (1, 2)]
    child = os.fork()
    if not child:
        for number, file in enumerate(files, start=1):
            os.dup2(file.fileno(), number)
        sys.argv = ["demjax.main", *argv]
        try:
            demjax.main.run()
        except SystemExit as end:
            status = end.code
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([status, *(file.seek(0) or file.read() for file in files)]))
"""


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    """(folder, [(status, stdout, stderr)]) of every command in MISTAKES."""
    folder = tmp_path_factory.mktemp("mistakes")
    commands = []
    for number, (args, _) in enumerate(MISTAKES):
        named = any(a.startswith("--workdir") for a in args)
        commands.append([*args, *([] if named else [f"--workdir={folder}/{number}/new"])])
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FORKS, json.dumps(commands)]
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=HUNG)
    assert ran.returncode == 0, ran.stderr
    return folder, [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[told for _, told in MISTAKES])
def test_mistakes_are_one_line(number, mistakes):
    folder, results = mistakes
    status, out, err = results[number]
    assert status == 1, out
    assert err.startswith("demjax: error: ") and err.count("\n") == 1, err
    assert MISTAKES[number][1] in err
    assert not (folder / str(number) / "new").exists()


def test_help_teaches():
    result = demjax("--help")
    assert "--config=configs/synthetic.py" in result.stdout and "resumes" in result.stdout


def test_default_workdir_is_named_after_the_config(tmp_path):
    result = demjax("--config", ROOT / "configs/cub.py:quick", "--mode=eval", cwd=tmp_path)
    assert result.returncode == 1 and "runs/cub-quick has no checkpoint to evaluate" in result.stderr


def test_tables_mistakes_are_one_line(tmp_path):
    result = demjax(tmp_path, module="demjax.tables")
    assert result.returncode == 1 and result.stderr.startswith("demjax: error: ") and result.stderr.count("\n") == 1


def test_config_path_in_both_spellings():
    assert config_path(["x", "--config=a.py:b", "--mode=eval"]) == "a.py"
    assert config_path(["x", "--config", "a.py:b"]) == "a.py"
    assert config_path(["x", "--config.seed=1"]) == ""


def test_a_mistake_inside_a_config_file_is_its_last_line():
    error = ValueError(
        "Error whilst parsing\nTraceback (most recent call last):\n  File x\nNameError: name 'y' is not defined"
    )
    assert flag_mistake(["x"], error) == "NameError: name 'y' is not defined"
    wrapped = ValueError(f"Traceback\n{UserError.__module__}.UserError: told")
    assert flag_mistake(["x"], wrapped) == "told"


def test_the_commands_of_the_console_script(tmp_path):
    """`python -m demjax train` is what `demjax train` runs; `python -m demjax.main` is tested above."""
    arguments = ("--config=configs/synthetic.py:quick", f"--workdir={tmp_path}")
    ran = demjax("train", *arguments, module="demjax")
    assert ran.returncode == 0 and "epoch 3/3" in ran.stdout, ran.stderr
    again = demjax("evaluate", *arguments, module="demjax")
    assert again.returncode == 0 and "epoch 3/3" not in again.stdout and "T1" in again.stdout, again.stderr
    shown = demjax("evaluate", "--help", module="demjax").stdout
    assert "Evaluate the newest checkpoint" in shown and "--config" in shown and "--workdir" in shown


def test_the_command_line_lists_its_commands():
    from importlib import import_module

    from demjax.cli.app import COMMANDS

    shown = demjax("--help", module="demjax")
    assert shown.returncode == 0 and all(f"  {name} " in shown.stdout for name in COMMANDS)
    assert demjax("--version", module="demjax").stdout.startswith("demjax 0.")
    wrong = demjax("trian", module="demjax")
    assert (
        wrong.returncode == 2 and wrong.stderr == "demjax: error: there is no command 'trian': did you mean 'train'?\n"
    )
    assert all(callable(import_module(module).run) for module, _ in COMMANDS.values())
