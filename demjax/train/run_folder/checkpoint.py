"""Orbax behind one interface: asynchronous, atomic, verified.

Orbax promises that a step is whole or absent, not that its bytes are right: a flipped bit restores without
a word. So each step carries the SHA-256 of every leaf, checked on restore; the newest step that verifies
is used, and what does not is moved aside, never deleted.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from demjax import distributed
from demjax.checks import UserError
from demjax.mesh import place


class Restored(NamedTuple):
    """A verified step: its number, the state on today's devices, and its notes."""

    step: int
    state: Any
    meta: dict[str, Any]


class NotSaved(OSError):
    """A checkpoint could not be written, most likely because the disk is full. Older ones are intact."""


class Checkpoints:
    """The checkpoints of one run, in one folder: process 0 writes them, every process reads them.

    All processes call every method. Orbax works in each alone: with processes that write together a write that fails
    in one of them leaves the others waiting, for minutes.
    """

    def __init__(self, folder: Path, keep: int = 3):
        self.folder = Path(folder)
        with distributed.raise_in_all():
            if distributed.is_first():
                self.folder.mkdir(parents=True, exist_ok=True)
        writes, alone = distributed.is_first(), None
        if jax.process_count() > 1:
            me = jax.process_index()
            alone = ocp.options.MultiprocessingOptions(me, active_processes={me}, barrier_sync_key_prefix=f"alone-{me}")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep if writes else None,
            cleanup_tmp_directories=writes,
            create=False,
            read_only=not writes,
            multiprocessing_options=alone or ocp.options.MultiprocessingOptions(),
        )
        self._manager = ocp.CheckpointManager(self.folder.resolve(), options=options)

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Starts writing `state` and `meta` (JSON values) in the background; waits for an earlier write.

        Raises:
          NotSaved: this write could not start, or the one before it failed.
        """
        with distributed.raise_in_all():
            if distributed.is_first():
                self._save(step, state, meta)

    def _save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        host = jax.device_get(state)  # Orbax copies it: the next steps may write over the memory these are views of
        item = {"meta": meta, "leaves": leaf_digests(host)}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(host), meta=ocp.args.JsonSave(item | {"self": _digest_json(item)})
        )
        with self._as_not_saved():
            self._manager.wait_until_finished()
            self._manager.save(step, args=args, force=True)

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          NotSaved: something could not be written: here, or in the background since the last call.
        """
        with distributed.raise_in_all(), self._as_not_saved():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Ends the background threads. What could not be written was raised by `save` or `wait`."""
        with contextlib.suppress(Exception):
            self._manager.close()

    @contextlib.contextmanager
    def _as_not_saved(self) -> Iterator[None]:
        """Orbax and TensorStore raise a dozen types when a write fails."""
        try:
            yield
        except Exception as error:
            message = " ".join(str(error).split())
            for unfinished in self.folder.glob("*.orbax-checkpoint-tmp"):
                shutil.rmtree(unfinished, ignore_errors=True)  # gives its space back
            code = re.search(r"os_error_code='(\d+)'", message)
            reason = os.strerror(int(code[1])) if code else message[:200]
            raise NotSaved(f"a checkpoint in {self.folder} could not be written ({reason})") from error

    def restore(
        self, like: Any, expected: Mapping[str, Any] | None = None, warn=print, move: bool = True
    ) -> Restored | None:
        """The newest step that verifies, on the devices and shardings of `like`; None if no step was ever saved.

        Args:
          like: a tree of arrays of the shapes expected; its shardings are today's.
          expected: what the notes of the step must say (`check_same`), looked at before any array is: data of
            another shape are a mistake of the person, not damage.
          warn: receives a line about each step that does not verify.
          move: moves those to `damaged/` beside the checkpoints, so that the resumed run can write them again.

        Raises:
          UserError: a step of another config or of other data; or steps, none of which verifies.
          OSError, MemoryError: the machine failed, not the checkpoint; nothing is moved.
        """
        abstract = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        damaged: dict[int, str] = {}
        for step in self._steps():
            item, reason = _tried(self._verified_notes, step)
            if not reason:
                check_same(item["meta"], expected or {}, self.folder.parent)
                state, reason = _tried(
                    lambda step=step, item=item: self._verified_state(step, abstract, item["leaves"])
                )
            if not reason:
                self._warn_of_damage(damaged, warn, move)
                return Restored(step, jax.tree.map(lambda x, y: place(x, y.sharding), state, like), item["meta"])
            damaged[step] = reason
        if damaged:
            newest = max(damaged)
            raise UserError(
                f"none of the {len(damaged)} checkpoints in {self.folder} verifies (step {newest}: {damaged[newest]}); "
                "put a copy in their place, or train anew in another --workdir"
            )
        return None

    def _steps(self) -> list[int]:
        """Newest first; those that process 0 sees, for all."""
        steps = sorted(self._manager.all_steps(), reverse=True)
        return json.loads(distributed.from_first(json.dumps(steps))) if jax.process_count() > 1 else steps

    def _warn_of_damage(self, damaged: Mapping[int, str], warn, move: bool) -> None:
        for step, reason in damaged.items():
            done = f"moved to {self._set_aside(step)}" if move else "left in its place"
            warn(f"WARNING: checkpoint {step} is damaged ({reason}); {done}, trying an older one")

    def _verified_notes(self, step: int) -> dict[str, Any]:
        item = dict(self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta)
        if item.pop("self", None) != _digest_json(item):
            raise ValueError("its notes do not match their SHA-256")
        return item

    def _verified_state(self, step: int, abstract: Any, digests: Mapping[str, str]) -> Any:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        state = self._manager.restore(step, args=args).state
        actual = leaf_digests(state)
        wrong = sorted(k for k in actual.keys() | digests.keys() if actual.get(k) != digests.get(k))
        if wrong:
            raise ValueError(f"SHA-256 of {wrong[0]} differs from the one written")
        return state

    def _set_aside(self, step: int) -> Path:
        damaged = self.folder.parent / "damaged"
        place = next(p for n in itertools.count() if not (p := damaged / f"{step}-{n}").exists())
        distributed.wait("before a step is moved")
        if distributed.is_first():
            damaged.mkdir(exist_ok=True)
            (self.folder / str(step)).rename(place)
        distributed.wait("after a step is moved")
        self._manager.reload()
        return place


# What the operating system says when it is short of something: no word about the bytes of a checkpoint.
MACHINE = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC}


def _is_the_machine(error: Exception) -> bool:
    code = getattr(error, "errno", None)
    in_text = re.search(r"os_error_code='(\d+)'", str(error))
    return code in MACHINE or bool(in_text and int(in_text[1]) in MACHINE) or "RESOURCE_EXHAUSTED" in str(error)


def _tried(read: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """What was read, or why it could not be: a reason in one process is one in all."""
    value, reason = None, ""
    try:
        value = read(*arguments)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # damaged bytes raise whatever they happen to hit in Orbax and below
        if _is_the_machine(error):
            raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
    return value, reason or "for another process" * any(distributed.any_of(bool(reason)))


def leaf_digests(tree: Any) -> dict[str, str]:
    """SHA-256 of every leaf, over dtype, shape and bytes, by its path in the tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): _digest_array(leaf) for path, leaf in leaves}


def _digest_array(leaf: Any) -> str:
    array = np.ascontiguousarray(jax.device_get(leaf))
    sha = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _digest_json(item: Any) -> str:
    return hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()


HINTS = {"chunks": "add --config.train.placement=streamed where it has chunks, =sharded where it has all rows"}


def check_same(meta: Mapping[str, Any], expected: Mapping[str, Any], where: Path) -> None:
    """Refuses a checkpoint of another config or of other data."""
    for what, value in expected.items():
        if meta.get(what) != value:
            raise UserError(
                f"{where} was trained with {what} {meta.get(what)}, this run has {value}: "
                + HINTS.get(what, "use another --workdir, or the data it was trained on")
            )
