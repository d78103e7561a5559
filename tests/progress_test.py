"""The progress line, on a clock that the test moves."""

import io

import pytest

from demjax import progress
from demjax.progress import ProgressLine, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    def be_one():  # within the test: pytest captures anew for its call
        out = Terminal()
        monkeypatch.setattr(progress.sys, "stderr", out)
        return out

    return be_one


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1:00 min"),
        (3599.4, "59:59 min"),
        (3600, "1:00:00 h"),
        (90061, "25:01:01 h"),
    ],
)
def test_durations(seconds, told):
    assert duration(seconds) == told


def test_quiet_at_first_then_rewritten_in_place(clock, terminal):
    out = terminal()
    line = ProgressLine("searching")
    clock[0] += 1.9
    line(1, 10)
    assert out.getvalue() == ""
    clock[0] += 2.1
    line(2, 10)
    line(3, 10)  # at once: not written again
    assert out.getvalue().strip() == "searching  20 % | 4.0 s | eta 16.0 s"
    clock[0] += 4
    line(10, 10)
    assert out.getvalue().count("\r") == 2 and out.getvalue().endswith("\n") and "100 %" in out.getvalue()


def test_a_file_gets_a_line_every_ten_seconds(clock, tmp_path):
    out = (tmp_path / "log").open("w+")
    line = ProgressLine("searching", out)
    for step in range(1, 31):
        clock[0] += 1
        line(step, 30)
    told = (tmp_path / "log").read_text()
    out.close()
    assert told.count("\n") == 3 and "\r" not in told


def test_short_work_says_nothing(clock, terminal):
    out = terminal()
    ProgressLine("searching")(5, 5)
    assert out.getvalue() == ""
