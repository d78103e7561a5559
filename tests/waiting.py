"""Limits of time in tests: guards against what hangs for ever, no measures of how fast a machine is."""

import re
import time
from pathlib import Path

HUNG = 1800.0  # seconds after which what has not ended is taken to hang; a busy machine needs minutes


def wait_until(happened, what, every=0.02):
    """Returns once `happened()` is true; `what` never came, if it does not become so."""
    end = time.monotonic() + HUNG
    while not happened():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(every)


def heard(process, number):
    """Whether a process catches or ignores a signal; else the system ends it."""
    told = Path(f"/proc/{process}/status").read_text()
    return any(int(mask, 16) >> (number - 1) & 1 for mask in re.findall(r"Sig(?:Cgt|Ign):\s*(\w+)", told))
