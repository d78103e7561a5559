"""What every script of launch/ prints with --dry-run, word by word.

After a change that is meant: GOLDEN=write python -m pytest -n 0 tests/launch/golden_test.py, then read the difference.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"

CASES = {
    "seeds": ("seeds.sh", "--dry-run", "2", "runs/cub", "--config=configs/cub.py"),
    "local": ("local.sh", "--dry-run", "--processes=3", "--", "--config=configs/synthetic.py", "--workdir=runs/a b"),
    "local_devices": (
        *("local.sh", "--dry-run", "--processes=2", "--devices=4", "--port=4000", "--logs=l"),
        *("--", "--config=c.py"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_dry_run(name, tmp_path):
    script, *argv = CASES[name]
    # Nothing but the tools of every system: a dry run needs neither gcloud nor kubectl nor Slurm, and asks nobody.
    env = {"PATH": "/usr/bin:/bin", "HOME": "/home/somebody", "CLOUDSDK_CONFIG": str(tmp_path)}
    done = subprocess.run([ROOT / "launch" / script, *argv], capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    told, file = done.stdout.replace(str(ROOT), "CHECKOUT"), GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        file.write_text(told)
    assert told == file.read_text(), "if that is meant: GOLDEN=write, see above"


def test_no_golden_file_is_left_over():
    assert {f.stem for f in GOLDEN.iterdir()} == set(CASES)


def test_every_script_is_here():
    launch = ROOT / "launch"
    scripts = {str(f.relative_to(launch)) for f in [*launch.rglob("*.sh"), *launch.rglob("*.sbatch")]}
    assert {case[0] for case in CASES.values()} == scripts
