"""Stand-ins for the programs that the scripts of launch/ call."""

import contextlib
import os
import signal

import pytest


@pytest.fixture
def stand_in(tmp_path):
    """stand_in(name, body): a program in tmp_path/bin that notes its arguments in tmp_path/calls, then does body."""
    (tmp_path / "bin").mkdir()

    def make(name, body=""):
        file = tmp_path / "bin" / name
        file.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> "{tmp_path}/calls"\n{body}\n')
        file.chmod(0o755)
        return file

    return make


@pytest.fixture
def calls(tmp_path):
    """What the stand-ins were asked, in order."""
    return lambda: (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []


@pytest.fixture
def end_of_processes(tmp_path):
    """Kills, after the test, every process that left its number in a file under tmp_path called pid or holder."""
    yield
    for file in [*tmp_path.rglob("holder"), *tmp_path.rglob("pid")]:
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(file.read_text()), signal.SIGKILL)
