"""A run killed at random moments and started again ends where an uninterrupted one ends, bit for bit."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EPOCHS = 30
COMMAND = [
    sys.executable, "-m", "demjax.main", "--config=configs/synthetic.py", f"--config.train.epochs={EPOCHS}",
    "--config.data.planted.n_classes=40", "--config.data.planted.n_unseen=10", "--config.task.hidden=256",
    "--config.train.passes_per_epoch=20", "--config.log.tensorboard=False",
]  # fmt: skip


def start(workdir):
    command = [*COMMAND, f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(workdir):
    process = start(workdir)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told
    return told


def epochs_saved(workdir):
    folder = workdir / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.exists() else []


def wait_for_training(process, workdir):
    """Until this session has written something: a kill during start-up is easy to survive."""
    before, deadline = epochs_saved(workdir), time.time() + 120
    while epochs_saved(workdir) == before and process.poll() is None and time.time() < deadline:
        time.sleep(0.01)


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
        process = start(workdir)
        if rng.random() < 0.8:
            wait_for_training(process, workdir)
            time.sleep(rng.uniform(0, 0.15))
        else:
            time.sleep(rng.uniform(0, 3))  # imports, data, compilation, restore
        process.send_signal(signal.SIGKILL)
        process.communicate()
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
    process = start(tmp_path)
    wait_for_training(process, tmp_path)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0, told
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
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=60)
        # Before Python has run the first lines of main nothing can answer, and nothing is lost.
        assert process.returncode in (0, -signal.SIGTERM if wait < 1 else 0), told
    finish(tmp_path)
    assert_same_end(tmp_path, uninterrupted)


def test_flipped_byte_in_the_newest_checkpoint(tmp_path, uninterrupted):
    """Falls back loudly, then ends where a run from the older checkpoint ends."""
    process = start(tmp_path)
    while len(epochs_saved(tmp_path)) < 3 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
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
    process = start(tmp_path)
    wait_for_training(process, tmp_path)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    before = epochs_saved(tmp_path)
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); "
    limited += "sys.argv = sys.argv[1:]; runpy.run_module('demjax.main', run_name='__main__')"
    command = [sys.executable, "-c", limited, *COMMAND[2:], f"--workdir={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1, result.stdout + result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("demjax: error:")]
    assert len(errors) == 1 and "Traceback" not in result.stderr, result.stderr
    assert "could not be written (File too large)" in errors[0] and "the same command resumes" in errors[0]
    assert epochs_saved(tmp_path) == before
    finish(tmp_path)
    assert_same_end(tmp_path, uninterrupted)
