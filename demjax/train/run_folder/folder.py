"""One folder is one run: its lock, its config, a user's task file, and files that are whole or absent."""

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

from demjax import distributed, user_code
from demjax.checks import UserError
from demjax.data.files import read_json
from demjax.train.config import counting, flatten, is_free

LOCK, PLACEMENT, CONFIG, SPEC, TASK_FILE = "lock", "placement.json", "config.json", "spec.json", "task.py"
SHARED_SECONDS = 20


@contextlib.contextmanager
def open_folder(path: str | Path) -> Iterator[Path]:
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

    A task from a user's file is kept beside it, so that the run can be restored without that file.

    Raises:
      UserError: lists each key that differs, with both values.
    """
    file, new = workdir / CONFIG, json.loads(json.dumps(flatten(config)))
    if not file.exists():
        if (workdir / "checkpoints").exists():
            raise UserError(f"{workdir} has checkpoints but no {CONFIG}: is it the folder of something else?")
        write_json(file, new)
        _keep_task_file(workdir, config)
        return
    old = read_json(file)
    if not isinstance(old, dict):
        raise UserError(f"{file} is damaged (no settings by name): mend it or choose another --workdir")
    new, old = counting(new), counting(old)
    differing = [k for k in sorted(new.keys() | old.keys()) if new.get(k) != old.get(k) and not is_free(k)]
    if differing:
        values = "; ".join(f"{k}: {old.get(k)!r} there, {new.get(k)!r} now" for k in differing)
        raise UserError(f"{workdir} holds a run with another config ({values}): choose another --workdir")
    _keep_task_file(workdir, config)


def _keep_task_file(workdir: Path, config: ConfigDict) -> None:
    """Copies a user's task file beside the config; until something is trained with it, it may still change."""
    if not user_code.is_reference(config.task.name):
        return
    source, kept = user_code.file_of(config.task.name), workdir / TASK_FILE
    if kept.is_file() and kept.read_bytes() != source.read_bytes() and any((workdir / "checkpoints").glob("[0-9]*")):
        raise UserError(
            f"{workdir} was trained with another task file, kept as {kept}: choose another --workdir for {source}"
        )
    write_bytes(kept, source.read_bytes())


def note_placement(workdir: Path, *, streamed: bool) -> None:
    """Writes whether the rows of a new run are streamed, so that it goes on in the same batches on any machine."""
    if not (workdir / PLACEMENT).exists():
        write_json(workdir / PLACEMENT, {"streamed": streamed})


def read_placement(workdir: Path) -> bool:
    """Whether the rows of the run in `workdir` are streamed.

    Raises:
      UserError: the file is damaged.
    """
    file = workdir / PLACEMENT
    try:
        return bool(json.loads(file.read_text())["streamed"])
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{file} is damaged ({error}): say how the run began, --config.train.placement=replicated|sharded|streamed"
        ) from error


def shared_folder(folder: Path) -> None:
    """Raises a UserError where the workdir is another folder than that of process 0, of the same name."""
    lock = distributed.from_first((folder / LOCK).read_text() if distributed.is_first() else "")
    with distributed.raise_in_all():
        end = time.monotonic() + SHARED_SECONDS
        while not ((folder / LOCK).is_file() and (folder / LOCK).read_text() == lock):
            if time.monotonic() > end:  # file systems of a network may show late what another machine has written
                raise UserError(
                    f"--workdir={folder} is not that of process 0: expected one folder that all processes see"
                )
            time.sleep(0.2)


def write_json(file: Path, value: Any) -> None:
    """Writes beside, then renames: a reader sees the old file or the new one, never half of one."""
    write_text(file, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_text(file: Path, text: str) -> None:
    """As write_json, for text."""
    write_bytes(file, text.encode())


def write_bytes(file: Path, content: bytes) -> None:
    """As write_json, for bytes."""
    partial = file.with_name(file.name + ".part")
    with naming(file):
        try:
            with partial.open("wb") as out:
                out.write(content)
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
