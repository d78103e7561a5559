"""launch/README.md: its commands are understood by the scripts, and it names every one of them."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "launch" / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, flags=re.M | re.S)
COMMANDS = [shlex.split(line) for block in BLOCKS for line in re.split(r"\n(?=\S)", block.replace("\\\n", " "))]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_are_understood(command):
    if command[0] == "export":
        return
    at = next(i for i, word in enumerate(command) if word.startswith("launch/"))
    env = {"PATH": "/usr/bin:/bin", "TPU_NAME": "cub", "TPU_ZONE": "z", "TPU_TYPE": "v5litepod-16"}
    argv = [ROOT / command[at], "--dry-run", *command[at + 1 :]]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == 0 and done.stdout, done.stderr


def test_every_script_for_people_is_named():
    assert len(COMMANDS) > 10
    for file in ("local.sh", "seeds.sh", "tpu_vm.sh", "gke/submit.sh", "slurm/train.sbatch", "docker/Dockerfile"):
        assert f"`{file}`" in README and (ROOT / "launch" / file).exists()
