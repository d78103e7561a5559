"""What every command line does about mistakes, failures and stops: one line, and an exit status."""

import sys
from collections.abc import Callable

from absl import logging

from demjax.checks import UserError
from demjax.train.stop import Preempted, stop


def exit_status(call: Callable[[], int | None], *, resumes: bool = True) -> int:
    """Runs `call`: what it returns (None is 0), 0 safely stopped, 1 a mistake or a failure, 130 stopped at once.

    With `resumes` the call saves as it goes, and SIGTERM and Ctrl-C ask it to stop (train/stop.py).
    """
    if resumes:
        stop.install()
        # Orbax tells dozens of lines a checkpoint, and when a write fails its threads print what is raised here
        # in one line anyway.
        logging.set_verbosity(logging.FATAL)
        sys.unraisablehook = lambda unraisable: None
    try:
        return call() or 0
    except Preempted as told:
        print(f"demjax: {told}; the same command resumes", file=sys.stderr)
        return 0
    except KeyboardInterrupt:
        more = "; the same command resumes from the newest checkpoint" if resumes else ""
        print(f"demjax: stopped at once{more}", file=sys.stderr)
        return 130
    except UserError as mistake:
        print(f"demjax: error: {mistake}", file=sys.stderr)
    except OSError as failure:
        what = f"{failure.filename}: {failure.strerror}" if failure.filename else str(failure)
        more = "; what was saved before is intact, the same command resumes" if resumes else ""
        print(f"demjax: error: {what}{more}", file=sys.stderr)
    return 1
