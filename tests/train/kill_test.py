"""A run killed at random moments and started again ends where an uninterrupted one ends, bit for bit."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.waiting import HUNG, heard

ROOT = Path(__file__).parents[2]
EPOCHS = 30
COMMAND = [
    sys.executable, "-m", "demjax.main", "--config=configs/synthetic.py", f"--config.train.epochs={EPOCHS}",
    "--config.data.planted.n_classes=40", "--config.data.planted.n_unseen=10", "--config.task.hidden=256",
    "--config.train.passes_per_epoch=20", "--config.log.tensorboard=False",
]  # fmt: skip


# demjax.main, which gets a signal so many seconds after its start, or after the line of its n-th epoch. It comes from
# within: from elsewhere it might come when the run has reached its end.
TIMED = """
import os, runpy, sys, threading, time
number, lines, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
def fall_due():
    threading.Thread(target=lambda: (time.sleep(seconds), os.kill(os.getpid(), number)), daemon=True).start()
class Told:
    def __init__(self, out):
        self.out, self.left = out, lines
    def __getattr__(self, name):
        return getattr(self.out, name)
    def write(self, text):
        done = self.out.write(text)
        if text.startswith("epoch "):
            self.left -= 1
            if self.left == 0:
                fall_due() if seconds else os.kill(os.getpid(), number)
        return done
if not lines:
    fall_due()
sys.stdout, sys.argv = Told(sys.stdout), sys.argv[3:]
runpy.run_module("demjax.main", run_name="__main__")
"""


def start(workdir, *timed):
    """`timed`: a signal, the number of epochs told before it, seconds."""
    program = [sys.executable, "-c", TIMED, *map(str, timed)] if timed else COMMAND[:3]
    command = [*program, *COMMAND[3:], f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(workdir):
    process = start(workdir)
    told, _ = process.communicate(timeout=HUNG)
    assert process.returncode == 0, told
    return told


def epochs_saved(workdir):
    folder = workdir / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.exists() else []


def stopped(workdir, epochs):
    """What a run told that got SIGTERM after so many epochs."""
    process = start(workdir, int(signal.SIGTERM), epochs, 0)
    told, _ = process.communicate(timeout=HUNG)
    assert process.returncode == 0, told
    return told


def final_leaves(workdir):
    """SHA-256 of every leaf of the last state: parameters, optimiser, epoch and key."""
    notes = json.loads((workdir / "checkpoints" / str(EPOCHS) / "meta" / "metadata").read_text())
    return notes["leaves"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    finish(workdir)
    return final_leaves(workdir), json.loads((workdir / "report.json").read_text())["metrics"]


def assert_same_end(workdir, uninterrupted):
    leaves, metrics = uninterrupted
    assert len(leaves) > 10 and final_leaves(workdir) == leaves
    assert json.loads((workdir / "report.json").read_text())["metrics"] == metrics
    epochs = [json.loads(line)["epoch"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, EPOCHS + 1)), "every epoch once, none torn"


def kill_often(workdir, kills, seed):
    rng, midway = random.Random(seed), 0
    for _ in range(kills):
        if rng.random() < 0.8:  # a kill during start-up is easy to survive
            process = start(workdir, int(signal.SIGKILL), 2, rng.uniform(0, 0.15))
        else:
            process = start(workdir, int(signal.SIGKILL), 0, rng.uniform(0, 3))  # imports, data, compilation, restore
        process.communicate(timeout=HUNG)
        midway += epochs_saved(workdir)[-1:] < [EPOCHS]
    return midway


def test_killed_twice(tmp_path, uninterrupted):
    assert kill_often(tmp_path, kills=2, seed=1) >= 1
    finish(tmp_path)
    assert_same_end(tmp_path, uninterrupted)


@pytest.mark.slow
def test_killed_twenty_times(tmp_path, uninterrupted):
    assert kill_often(tmp_path, kills=20, seed=0) >= 5
    finish(tmp_path)
    assert_same_end(tmp_path, uninterrupted)


def test_sigterm_saves_and_exits_zero(tmp_path, uninterrupted):
    told = stopped(tmp_path, epochs=2)
    assert "stopped by SIGTERM after epoch" in told and "resumes" in told
    assert not (tmp_path / "report.json").exists()
    reached = epochs_saved(tmp_path)[-1]
    assert f"resuming after epoch {reached} of {EPOCHS}" in finish(tmp_path)
    assert_same_end(tmp_path, uninterrupted)


@pytest.mark.slow
def test_sigterm_at_any_moment_exits_zero(tmp_path, uninterrupted):
    """During imports, data, compilation, training, evaluation."""
    for wait in (0.3, 1, 2, 3, 3.5, 4, 4.5):
        process = start(tmp_path)
        time.sleep(wait)
        # Before Python has run the first lines of main nothing can answer, and nothing is lost.
        answers = process.poll() is not None or heard(process.pid, signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=HUNG)
        assert process.returncode == 0 or (process.returncode == -signal.SIGTERM and not answers), told
    finish(tmp_path)
    assert_same_end(tmp_path, uninterrupted)


def test_flipped_byte_in_the_newest_checkpoint(tmp_path, uninterrupted):
    """Falls back loudly, then ends where a run from the older checkpoint ends."""
    stopped(tmp_path, epochs=4)
    newest = tmp_path / "checkpoints" / str(epochs_saved(tmp_path)[-1])
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    told = finish(tmp_path)
    assert f"WARNING: checkpoint {newest.name} is damaged" in told
    assert (tmp_path / "damaged" / f"{newest.name}-0").is_dir()
    assert_same_end(tmp_path, uninterrupted)


def test_disk_full_while_saving(tmp_path, uninterrupted):
    """No file may grow beyond 60 kB, a tenth of a checkpoint: one line is told, older steps stay good."""
    stopped(tmp_path, epochs=2)
    before = epochs_saved(tmp_path)
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); "
    limited += "sys.argv = sys.argv[1:]; runpy.run_module('demjax.main', run_name='__main__')"
    command = [sys.executable, "-c", limited, *COMMAND[2:], f"--workdir={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HUNG)
    assert result.returncode == 1, result.stdout + result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("demjax: error:")]
    assert len(errors) == 1 and "Traceback" not in result.stderr, result.stderr
    assert "could not be written (File too large)" in errors[0] and "the same command resumes" in errors[0]
    assert epochs_saved(tmp_path) == before
    finish(tmp_path)
    assert_same_end(tmp_path, uninterrupted)
