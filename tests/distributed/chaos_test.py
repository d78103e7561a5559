"""Processes that die, at any moment, of anything: the others stop and say so, and nothing that was saved is lost."""

import json
import os
import random
import signal
import time

import jax
import numpy as np
import pytest

from demjax.distributed.watch import GONE
from demjax.train.restore import restore_run
from demjax.train.run_folder.folder import open_folder
from tests.distributed.launch import finish, mains
from tests.distributed.worker import write_set
from tests.waiting import wait_until

CONFIG = (
    "--config=configs/synthetic.py:quick", "--config.optimizer.name=sgd", "--config.optimizer.learning_rate=1e-3",
    "--config.train.batching=examples", "--config.log.tensorboard=False",
)  # fmt: skip


def epochs(workdir):
    """Finished epochs that were told."""
    file = workdir / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line)["epoch"] for line in lines if line.endswith("\n")]


def wait_for_epoch(workdir, number, started):
    """Or for the end of process 0."""
    wait_until(lambda: len(epochs(workdir)) >= number or started[0].poll() is not None, f"epoch {number}")


def saved(workdir):
    return sorted((name for name in os.listdir(workdir / "checkpoints") if name.isdigit()), key=int)


def params(workdir):
    return jax.tree.map(np.asarray, restore_run(workdir).variables.params)


def test_one_is_killed_and_the_other_says_so(tmp_path):
    """Then one process of one device goes on, to the end of a run that nobody disturbed."""
    flags = (*CONFIG, "--config.train.epochs=60")
    started = mains(2, *flags, f"--workdir={tmp_path}/run")
    wait_for_epoch(tmp_path / "run", 2, started)
    started[1].kill()
    first, second = finish(started)
    # The status and the words are those of the closed connection; JAX's heartbeat, 100 s later, ends with SIGABRT.
    assert second.status == -signal.SIGKILL and first.status == GONE, first.err
    assert "process 1 of 2 has gone; what was saved is intact: start the same command again" in first.err
    before = saved(tmp_path / "run")
    first, second = finish(mains(2, *flags, f"--workdir={tmp_path}/run", file_bytes=7000))  # as if the disk were full
    assert (first.status, second.status) == (1, 1) and not second.err and first.err.count("demjax: error:") == 1, first
    assert "File too large" in first.err and "Traceback" not in first.err
    assert before[-1] in saved(tmp_path / "run")
    alone = [mains(1, *flags, f"--workdir={tmp_path}/{name}") for name in ("run", "undisturbed")]
    ended = finish([own[0] for own in alone])
    assert all(e.status == 0 for e in ended), ended
    assert "resuming after epoch" in ended[0].out
    compare(tmp_path / "run", tmp_path / "undisturbed", 2e-5)
    assert epochs(tmp_path / "run") == list(range(1, 61))


def test_a_launch_into_a_folder_in_use(tmp_path):
    with open_folder(tmp_path):
        first, second = finish(mains(2, *CONFIG, f"--workdir={tmp_path}"))
    assert (first.status, second.status) == (1, 1) and not second.err
    assert f"--workdir={tmp_path} is in use by another run" in first.err


def compare(got, want, tolerance):
    def check(g, w):
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)

    jax.tree.map(check, params(got), params(want))


@pytest.mark.parametrize(
    ("config", "own", "told"),
    [
        (("--config=configs/cub.py",), "--config.data.dir={tmp}/nowhere{i}", "nowhere0"),
        (CONFIG, "--workdir={tmp}/run{i}", "process 1 has other settings than process 0"),
        (CONFIG, "--workdir=/proc/demjax", "--workdir=/proc/demjax cannot be written to"),
        (CONFIG, "--config.evaluate.query_batch={i}0", "process 1 has other settings than process 0"),
    ],
)
def test_a_mistake_of_one_ends_all_and_is_told_once(tmp_path, config, own, told):
    flags = (*config, f"--workdir={tmp_path}/run", "--config.evaluate.query_batch=5")
    ended = finish(mains(2, *flags, each=lambda i: (own.format(tmp=tmp_path, i=i),)))
    assert [e.status for e in ended] == [1, 1]
    assert told in ended[0].err and not ended[1].err, ended
    assert not (tmp_path / "run").exists()


def test_a_data_file_that_is_cut_short_in_the_middle(tmp_path):
    """Touching what is no more there would end a process without a word."""
    write_set(tmp_path / "set")
    data = {"name": "MAPPED", "dir": tmp_path / "set", "semantics": "table", "split": "seen/unseen"}
    flags = [*CONFIG, *(f"--config.data.{key}={value}" for key, value in data.items())]
    train = {"placement": "streamed", "passes_per_epoch": 1, "chunk_rows": 50, "epochs": 100_000}
    flags += [f"--config.train.{key}={value}" for key, value in train.items()]
    started = mains(2, *flags, f"--workdir={tmp_path}/run")
    wait_for_epoch(tmp_path / "run", 2, started)
    with open(tmp_path / "set" / "features.npy", "r+b") as file:
        file.truncate(2000)
    ended = finish(started)
    assert sorted(e.status for e in ended) in ([1, 1], [1, GONE]), ended
    told = "".join(e.err for e in ended)
    assert "features.npy: was cut short while it was in use" in told and "Traceback" not in told, ended


@pytest.mark.parametrize(("file_bytes", "file"), [(1000, "config.json"), (3000, "checkpoints")])
def test_a_disk_that_is_full_from_the_start(tmp_path, file_bytes, file):
    """Nobody waits for the others, the file is named, and the space of what is unfinished is given back."""
    ended = finish(mains(2, *CONFIG, f"--workdir={tmp_path}/run", file_bytes=file_bytes))
    assert [e.status for e in ended] == [1, 1] and not ended[1].err, ended
    told = [line for line in ended[0].err.splitlines() if line.startswith("demjax: error:")]
    assert len(told) == 1 and file in told[0] and "File too large" in told[0] and "Traceback" not in ended[0].err
    assert not list((tmp_path / "run").glob("*.part")) and not list((tmp_path / "run").glob("checkpoints/*tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("same_layout", (True, False))
def test_twenty_rounds(tmp_path, same_layout):
    """Bit-equal where the layout stays, 2e-5 where it changes. A run that reaches its end is followed by another."""
    draw, flags = random.Random(0), (*CONFIG, "--config.train.epochs=60")
    undisturbed = finish(mains(2, *flags, f"--workdir={tmp_path}/undisturbed"))
    assert all(e.status == 0 for e in undisturbed), undisturbed
    rounds, run = 0, tmp_path / "run"
    while rounds < 20 or not (run / "report.json").exists():
        if (run / "report.json").exists():
            check_end(run, tmp_path / "undisturbed", same_layout)
            run = tmp_path / f"run-{rounds}"
        started = mains(2 if same_layout else draw.choice((1, 2, 4)), *flags, f"--workdir={run}")
        if rounds < 20:
            wait_for_epoch(run, len(epochs(run)) + draw.randrange(6), started)
            time.sleep(draw.random())
            victim = draw.choice(started)
            rounds += victim.poll() is None
            victim.send_signal(draw.choice((signal.SIGKILL, signal.SIGTERM)))
        # Whoever is still starting waits for the others, up to five minutes: a launcher ends it.
        ended = finish(started, grace=30)
        for e in ended:
            # SIGABRT: JAX's own end, of whoever has lost process 0. 1: the others did not come.
            known = e.status in (0, GONE, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGABRT)
            assert known or (e.status == 1 and "could not be joined" in e.err), ended
    check_end(run, tmp_path / "undisturbed", same_layout)


def check_end(run, undisturbed, same_layout):
    compare(run, undisturbed, 0.0 if same_layout else 2e-5)
    assert epochs(run) == list(range(1, 61))
