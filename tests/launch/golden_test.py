"""What every script of launch/ prints with --dry-run, word by word.

After a change that is meant: GOLDEN=write python -m pytest -n 0 tests/launch/golden_test.py, then read the difference.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
SLICE = ("--dry-run", "--name=cub", "--zone=us-west4-a")
FLAGS = ("--config=configs/cub.py:released", "--workdir=/mnt/runs/cub", "--config.data.dir=/mnt/it's data")
POD = ("--dry-run", "--name=cub", "--image=eu.example/demjax:1", "--per-pod=4")
RUN = ("--config=configs/cub.py", "--workdir=/runs/cub", '--config.data.dir=/runs/a "b" & \\c')

CASES = {
    "seeds": ("seeds.sh", "--dry-run", "2", "runs/cub", "--config=configs/cub.py"),
    "local": ("local.sh", "--dry-run", "--processes=3", "--", "--config=configs/synthetic.py", "--workdir=runs/a b"),
    "local_devices": (
        *("local.sh", "--dry-run", "--processes=2", "--devices=4", "--port=4000", "--logs=l"),
        *("--", "--config=c.py"),
    ),
    "tpu_vm_create": ("tpu_vm.sh", "create", *SLICE, "--type=v6e-16", "--spot", "--project=mine"),
    "tpu_vm_create_queued": ("tpu_vm.sh", "create", *SLICE, "--type=v5litepod-16", "--spot", "--queued"),
    "tpu_vm_setup": ("tpu_vm.sh", "setup", *SLICE, "--mount=mountpoint -q /m || sudo mount 10.0.0.2:/m /m"),
    "tpu_vm_sync": ("tpu_vm.sh", "sync", *SLICE),
    "tpu_vm_run": ("tpu_vm.sh", "run", *SLICE, "--", *FLAGS),
    "tpu_vm_logs": ("tpu_vm.sh", "logs", *SLICE, "--worker=2"),
    "tpu_vm_status": ("tpu_vm.sh", "status", *SLICE, "--queued"),
    "tpu_vm_stop": ("tpu_vm.sh", "stop", *SLICE),
    "tpu_vm_delete": ("tpu_vm.sh", "delete", *SLICE),
    "tpu_vm_delete_queued": ("tpu_vm.sh", "delete", *SLICE, "--queued"),
    "tpu_vm_retry": ("tpu_vm.sh", "retry", *SLICE, "--type=v5p-16", "--spot", "--mount=sudo true", "--", *FLAGS),
    "tpu_worker_setup": ("tpu_worker.sh", "--dry-run", "setup"),
    "tpu_worker_start": ("tpu_worker.sh", "--dry-run", "start", *FLAGS),
    "gke_rbac": ("gke/submit.sh", "--dry-run", "rbac", "--namespace=zoo"),
    "gke_workdir": ("gke/submit.sh", "--dry-run", "workdir", "--size=2Ti"),
    "gke_tpu": (
        *("gke/submit.sh", "tpu", *POD, "--pods=4", "--accelerator=tpu-v5-lite-podslice", "--topology=4x4"),
        *("--spot", "--", *RUN),
    ),
    "gke_gpu": ("gke/submit.sh", "gpu", *POD, "--pods=2", "--accelerator=nvidia-l4", "--restarts=3", "--", *RUN),
    "gke_process": ("gke/process.sh", "--dry-run", *RUN),
    "slurm": ("slurm/train.sbatch", "--dry-run", *FLAGS),
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
