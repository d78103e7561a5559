"""What every command line does about mistakes, failures and stops: one line, and an exit status."""

import sys
import time
import traceback
from collections.abc import Callable

from absl import logging

from demjax.checks import ReportedElsewhere, UserError
from demjax.train.run_folder.stop import Preempted, stop

ECHO_SECONDS = 2


def exit_status(call: Callable[[], int | None], *, resumes: bool = True) -> int:
    """Runs `call`: what it returns (None is 0), 0 safely stopped, 1 a mistake or a failure, 130 stopped at once.

    With `resumes` the call saves as it goes, and SIGTERM and Ctrl-C ask it to stop (train/run_folder/stop.py).
    """
    try:
        status = _status(call, resumes)
    except BaseException:
        if _several():
            _let_the_watch_speak()
            traceback.print_exc()
            _leave(1)  # an unhandled error would wait for the others, and they for it
        raise
    _leave(status)
    return status


def _several() -> bool:
    """Whether this is one of several processes; `--help` does not start JAX to find out."""
    return "jax" in sys.modules and sys.modules["jax"].process_count() > 1


def _let_the_watch_speak() -> None:
    """A collective or a checkpoint fails when a process dies; distributed/watch.py says why, and ends this process."""
    if _several():
        time.sleep(ECHO_SECONDS)


def _leave(status: int) -> None:
    if _several():
        from demjax import distributed

        distributed.leave(status)


def _status(call: Callable[[], int | None], resumes: bool) -> int:
    if resumes:
        stop.install()
        # Orbax logs dozens of lines a checkpoint, and when a write fails its threads print what is raised here
        # in one line anyway.
        logging.set_verbosity(logging.FATAL)
        sys.unraisablehook = lambda unraisable: None
    try:
        return call() or 0
    except Preempted as stopped:
        if not _several() or sys.modules["jax"].process_index() == 0:
            print(f"demjax: {stopped}; the same command resumes", file=sys.stderr)
        return 0
    except SystemExit as end:  # of absl, at the end of every program
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except KeyboardInterrupt:
        more = "; the same command resumes from the newest checkpoint" if resumes else ""
        print(f"demjax: stopped at once{more}", file=sys.stderr)
        return 130
    except ReportedElsewhere:
        pass
    except UserError as mistake:
        print(f"demjax: error: {mistake}", file=sys.stderr)
    except OSError as failure:
        _let_the_watch_speak()
        what = f"{failure.filename}: {failure.strerror}" if failure.filename else str(failure)
        more = "; what was saved before is intact, the same command resumes" if resumes else ""
        print(f"demjax: error: {what}{more}", file=sys.stderr)
    return 1
