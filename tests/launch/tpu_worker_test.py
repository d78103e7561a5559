"""launch/tpu_worker.sh: a run that outlives the call that began it, with a stand-in for Python."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.waiting import HUNG, wait_until

SCRIPT = Path(__file__).parents[2] / "launch" / "tpu_worker.sh"
RUNS = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done"
DEAF = "trap '' TERM; echo up; while :; do sleep 0.05; done"


@pytest.fixture
def worker(tmp_path, stand_in, end_of_processes):
    """worker(command, ...) on a machine whose Python does what tmp_path/plan says."""
    python = stand_in("python", f'. "{tmp_path}/plan"')
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHON": str(python)}

    def call(*argv, plan=None, stop_seconds=int(HUNG)):
        if plan:
            (tmp_path / "plan").write_text(plan + "\n")
        more = {"STOP_SECONDS": str(stop_seconds)}
        done = subprocess.run([SCRIPT, *argv], capture_output=True, text=True, env=env | more, timeout=HUNG)
        # A signal before its trap would end the stand-in, as it would end a Python that is still importing.
        if plan in (RUNS, DEAF):
            log = tmp_path / "demjax-run/log"
            wait_until(lambda: "up" in log.read_text().splitlines(), "the start of Python")
        return done

    return call


def told(worker, word, *argv):
    """The status, once it is no longer that of a run underway."""
    if not word.startswith("running"):
        wait_until(lambda: ": running" not in worker("status", *argv).stdout, word, every=0.05)
    status = worker("status", *argv).stdout
    assert f": {word}" in status, status
    return status


def test_a_run_that_finishes(worker, tmp_path, calls):
    assert "never started" in worker("status").stdout
    flags = ("--config=c d.py", f"--workdir={tmp_path}/runs")
    done = worker("start", *flags, plan=f'echo working; mkdir "{tmp_path}/runs"; touch "{tmp_path}/runs/report.json"')
    assert done.returncode == 0 and "started, process" in done.stdout, done.stderr
    told(worker, "finished", f"{tmp_path}/runs")
    assert calls() == [f"python -m demjax.main --config=c d.py --workdir={tmp_path}/runs"]
    assert "working" in (tmp_path / "demjax-run/log").read_text()
    assert "never started with workdir /another" in worker("status", "/another").stdout


def test_a_run_that_is_stopped_and_started_again(worker, tmp_path):
    assert worker("start", "--workdir=/w", plan=RUNS).returncode == 0
    told(worker, "running, process", "/w")
    for command in (("start", "--workdir=/w"), ("idle",)):
        refused = worker(*command)
        assert refused.returncode == 1 and "a run is underway" in refused.stderr
    assert worker("stop").returncode == 0
    assert "the same command resumes" in told(worker, "stopped")
    assert worker("idle").returncode == 0
    worker("start", "--workdir=/w", plan="echo again; exit 7")
    told(worker, "failed with status 7")
    assert (tmp_path / "demjax-run/log").read_text().count("saved") == 1, "a log is continued"


def test_one_that_does_not_stop_is_killed(worker):
    worker("start", "--workdir=/w", plan=DEAF)
    assert "killed" in worker("stop", stop_seconds=1).stderr
    told(worker, "failed with status 137")


def test_a_machine_that_went_down(worker, tmp_path):
    worker("start", "--workdir=/w", plan=RUNS)
    for name in ("holder", "pid"):
        os.kill(int((tmp_path / "demjax-run" / name).read_text()), signal.SIGKILL)
    told(worker, "lost")


def test_it_outlives_the_session_that_began_it(worker, tmp_path):
    worker("start", "--workdir=/w", plan=RUNS)
    holder = int((tmp_path / "demjax-run/holder").read_text())
    assert os.getsid(holder) == holder, "a session of its own"
    assert os.readlink(f"/proc/{holder}/fd/0") == "/dev/null"


def test_setup_installs_what_is_pinned(worker, tmp_path, stand_in, calls):
    stand_in("python3")
    (tmp_path / ".local/bin").mkdir(parents=True)
    stand_in("uv").rename(tmp_path / ".local/bin/uv")
    assert worker("setup").returncode == 0
    install, venv, packages = calls()
    assert install.startswith("python3 -m pip install") and "uv==" in install
    assert venv == f"uv venv --python 3.11 {tmp_path}/demjax-venv"
    pinned = [x for x in (SCRIPT.parents[1] / "requirements.txt").read_text().split() if x.startswith("jax==")]
    assert packages.endswith(pinned[0].replace("jax", "jax[tpu]")) and "-r " in packages


def test_mistakes(worker):
    assert worker("start", "--config=c.py").returncode == 2 and "--workdir" in worker("start", "x").stderr
    assert worker("begin").returncode == 2 and "got 'begin'" in worker("begin").stderr
