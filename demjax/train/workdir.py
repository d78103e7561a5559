"""One folder is one run: its lock, its config, and files that are whole or absent."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from demjax.checks import UserError
from demjax.train.config import flatten, is_free
from demjax.train.feed import Placement

LOCK, PLACEMENT = "lock", "placement.json"


@contextlib.contextmanager
def open_workdir(path: str | Path) -> Iterator[Path]:
    """Makes the folder if need be and holds it until the block ends; the lock dies with the process.

    Raises:
      UserError: it cannot be written to, or another run is using it.
    """
    workdir = Path(path).expanduser()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / LOCK).open("a+")
    except OSError as error:
        raise UserError(
            f"--workdir={workdir} cannot be written to ({error.strerror}): choose another folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(
                f"--workdir={workdir} is in use by another run ({lock.read().strip()}): "
                "wait for it, stop it, or choose another --workdir"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        lock.flush()
        yield workdir


def claim(workdir: Path, config: ConfigDict) -> None:
    """Writes config.json into a new workdir; in an old one, refuses a config that differs.

    Raises:
      UserError: lists each key that differs, with both values.
    """
    file, mine = workdir / "config.json", json.loads(json.dumps(flatten(config)))
    if not file.exists():
        if (workdir / "checkpoints").exists():
            raise UserError(f"{workdir} has checkpoints but no config.json: is it the folder of something else?")
        write_json(file, mine)
        return
    try:
        theirs = json.loads(file.read_text())
        if not isinstance(theirs, dict):
            raise ValueError("no settings by name")
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): mend it or choose another --workdir") from error
    differing = [k for k in sorted(mine.keys() | theirs.keys()) if mine.get(k) != theirs.get(k) and not is_free(k)]
    if differing:
        told = "; ".join(f"{k}: {theirs.get(k)!r} there, {mine.get(k)!r} now" for k in differing)
        raise UserError(f"{workdir} holds a run with another config ({told}): choose another --workdir")


def note_placement(workdir: Path, placement: Placement) -> None:
    """Writes where the rows of a new run are, so that it goes on in the same batches on a machine of another size."""
    if not (workdir / PLACEMENT).exists():
        write_json(workdir / PLACEMENT, {"streamed": placement.kind == "streamed"})


def write_json(file: Path, value: Any) -> None:
    """Writes beside, then renames: a reader sees the old file or the new one, never half of one."""
    write_text(file, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_text(file: Path, text: str) -> None:
    """As write_json, for text."""
    partial = file.with_name(file.name + ".part")
    with naming(file):
        try:
            with partial.open("w") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(file)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise


@contextlib.contextmanager
def naming(file: Path) -> Iterator[None]:
    """Puts the file into the error of a write that failed: what the system says of a full disk names none.

    Raises:
      OSError: with the name of the file.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error
