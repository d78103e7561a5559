"""The switches `profile` and `deterministic`."""

import os
import subprocess
import sys

import pytest

from demjax.train.parts import check_deterministic
from demjax.train.run_folder.profile import Trace
from tests.waiting import HUNG


def test_both_from_the_command_line(tmp_path):
    argv = [sys.executable, "-m", "demjax.main", "--config=configs/synthetic.py:quick", f"--workdir={tmp_path}/run"]
    argv += [f"--config.profile={tmp_path}/trace", "--config.deterministic=True", "--config.log.tensorboard=False"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=HUNG)
    assert done.returncode == 0, done.stderr
    assert f"profile of calls 2 to 3: {tmp_path}/trace" in done.stdout
    assert any(file.stat().st_size > 0 for file in (tmp_path / "trace").rglob("*.xplane.pb"))


@pytest.mark.parametrize(("calls", "traced"), [(1, (1, 1)), (2, (2, 2)), (9, (2, 4))])
def test_the_first_call_compiles_and_is_traced_only_alone(monkeypatch, calls, traced):
    now, seen = [], []
    monkeypatch.setattr("jax.profiler.start_trace", now.append)
    monkeypatch.setattr("jax.profiler.stop_trace", now.clear)
    trace = Trace("folder", calls, print)
    for number in range(1, calls + 1):
        with trace.call():
            seen += [number] if now else []
    assert (seen[0], seen[-1]) == traced and not now


def test_deterministic_too_late(monkeypatch, refused):
    monkeypatch.setitem(os.environ, "XLA_FLAGS", "")
    check_deterministic(True, "cpu")
    with refused("before"):
        check_deterministic(True, "gpu")
    monkeypatch.setitem(os.environ, "XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    check_deterministic(True, "gpu")
