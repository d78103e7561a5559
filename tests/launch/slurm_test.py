"""launch/slurm/train.sbatch: what it asks of Slurm, and when it queues itself again, with stand-ins for Slurm."""

import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "launch" / "slurm" / "train.sbatch"
OPTIONS = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", SCRIPT.read_text(), flags=re.M))


@pytest.fixture
def job(tmp_path, stand_in):
    """job(srun=body, state=..., **environment): the script inside an allocation of two nodes with four GPUs."""

    def call(*argv, srun="exit 0", state="RUNNING", **env):
        stand_in("srun", srun)
        stand_in("scontrol")
        stand_in("squeue", f"echo {state}")
        env = {
            "PATH": f"{tmp_path}/bin:/usr/bin:/bin", "SLURM_JOB_ID": "17", "SLURM_CPUS_PER_TASK": "12",
            "SLURM_GPUS_ON_NODE": "4", "SLURM_NTASKS_PER_NODE": "4",
        } | env  # fmt: skip
        argv = argv or ("--config=c d.py", f"--workdir={tmp_path}/run")
        return subprocess.run([SCRIPT, *argv], capture_output=True, text=True, env=env)

    (tmp_path / "run").mkdir()
    return call


def test_what_slurm_is_asked():
    assert OPTIONS["signal"] == "TERM@300", "to the steps: no B: in front"
    assert OPTIONS["open-mode"] == "append" and OPTIONS["requeue"] == ""
    assert OPTIONS["ntasks-per-node"] == OPTIONS["gpus-per-node"], "one task per GPU"
    assert not any(name.startswith(("gpus-per-task", "ntasks-per-gpu", "gpu-bind")) for name in OPTIONS)


def test_a_run_that_finishes(job, tmp_path, calls):
    done = job(srun=f'touch "{tmp_path}/run/report.json"')
    assert done.returncode == 0 and "finished" in done.stderr
    assert calls() == [
        "srun --kill-on-bad-exit=1 --gpu-bind=none --cpus-per-task=12 --label python -m demjax.main "
        f"--config=c d.py --workdir={tmp_path}/run --distributed=on"
    ]


@pytest.mark.parametrize("state", ["RUNNING", ""])
def test_a_run_that_was_stopped_is_queued_again(job, calls, state):
    done = job(state=state, SLURM_RESTART_COUNT="2")
    assert done.returncode == 0 and "queued again, restart 3" in done.stderr
    assert calls()[-1] == "scontrol requeue 17"


def test_a_cancelled_job_stays_cancelled(job, calls):
    done = job(state="CANCELLED")
    assert done.returncode == 0 and "CANCELLED: the same sbatch command resumes" in done.stderr
    assert not any("requeue" in c for c in calls())


def test_restarts_are_bounded(job, calls):
    done = job(SLURM_RESTART_COUNT="50")
    assert done.returncode == 1 and "MAX_RESTARTS=N allows more" in done.stderr
    assert job(SLURM_RESTART_COUNT="50", MAX_RESTARTS="51").returncode == 0
    assert sum("requeue" in c for c in calls()) == 1


def test_a_failure_is_not_tried_again(job, tmp_path, calls):
    done = job(srun=f'touch "{tmp_path}/run/report.json"; exit 9')
    assert done.returncode == 9 and "failed with status 9" in done.stderr and len(calls()) == 1


@pytest.mark.parametrize(
    "argv, env, told",
    [
        (("--config=c.py",), {}, "--workdir=DIR is missing"),
        (("--workdir=/w", "--process_id=0"), {}, "leave it out"),
        (("--workdir=/w",), {"SLURM_GPUS_PER_TASK": "1"}, "expected --gpus-per-node=G and --ntasks-per-node=G"),
        (("--workdir=/w",), {"SLURM_NTASKS_PER_NODE": "1"}, "got 4 GPUs and 1 tasks"),
        (("--workdir=/w",), {"SLURM_NTASKS_PER_NODE": ""}, "no set number of tasks"),
    ],
)
def test_mistakes(job, calls, argv, env, told):
    done = job(*argv, **env)
    assert done.returncode == 2 and told in done.stderr and calls() == []
