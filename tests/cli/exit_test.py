"""One line for everything that ends a command line."""

import signal

import pytest

from demjax.checks import UserError
from demjax.cli.exit import exit_status
from demjax.train.run_folder.stop import Preempted


@pytest.fixture
def as_before():
    """Signals and hooks are those of the process: put back what was there."""
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def ends_with(error):
    def call():
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (Preempted("stopped by SIGTERM"), 0, "demjax: stopped by SIGTERM; the same command resumes\n"),
        (KeyboardInterrupt(), 130, "demjax: stopped at once\n"),
        (UserError("k is 0"), 1, "demjax: error: k is 0\n"),
        (OSError(28, "No space left on device", "a.npz"), 1, "demjax: error: a.npz: No space left on device\n"),
        (OSError("a checkpoint could not be written"), 1, "demjax: error: a checkpoint could not be written\n"),
    ],
)
def test_one_line(capsys, error, status, told):
    assert exit_status(ends_with(error), resumes=False) == status
    assert capsys.readouterr().err == told


def test_what_resumes_says_so(capsys, as_before, monkeypatch):
    monkeypatch.setattr("sys.unraisablehook", None)
    assert exit_status(ends_with(OSError("full"))) == 1
    assert capsys.readouterr().err.endswith("what was saved before is intact, the same command resumes\n")
    assert exit_status(lambda: None) == 0 and exit_status(lambda: 3) == 3


def test_a_bug_is_no_mistake_of_the_user():
    with pytest.raises(ZeroDivisionError):
        exit_status(ends_with(ZeroDivisionError()), resumes=False)
