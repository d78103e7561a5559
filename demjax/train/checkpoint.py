"""Orbax behind one door: asynchronous, atomic, verified.

Orbax promises that a step is whole or absent, not that its bytes are right: a flipped bit restores without
a word. So each step carries the SHA-256 of every leaf, checked on restore; the newest step that verifies
is used, and what does not is moved aside, never deleted.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from demjax.checks import UserError


class Restored(NamedTuple):
    """A verified step: its number, the state on today's devices, and what was said beside it."""

    step: int
    state: Any
    meta: dict[str, Any]


class NotSaved(OSError):
    """A checkpoint could not be written, most likely because the disk is full. Older ones are intact."""


class Checkpoints:
    """The checkpoints of one run, in one folder."""

    def __init__(self, folder: Path, keep: int = 3):
        self.folder = Path(folder)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self.folder.resolve(), options=options)

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Starts writing `state` and `meta` (JSON values) in the background; waits for an earlier write.

        Raises:
          NotSaved: this write could not start, or the one before it failed.
        """
        self.wait()
        item = {"meta": meta, "leaves": leaf_digests(state)}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(item | {"self": _digest_json(item)})
        )
        with self._told_as_not_saved():
            self._manager.save(step, args=args, force=True)

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          NotSaved: something could not be written: here, or in the background since the last call.
        """
        with self._told_as_not_saved():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Ends the background threads. What could not be written was raised by `save` or `wait`."""
        with contextlib.suppress(Exception):
            self._manager.close()

    @contextlib.contextmanager
    def _told_as_not_saved(self) -> Iterator[None]:
        """Orbax and TensorStore raise a dozen types when a write fails."""
        try:
            yield
        except Exception as error:
            told = " ".join(str(error).split())
            code = re.search(r"os_error_code='(\d+)'", told)
            reason = os.strerror(int(code[1])) if code else told[:200]
            raise NotSaved(f"a checkpoint in {self.folder} could not be written ({reason})") from error

    def restore(self, like: Any, warn=print) -> Restored | None:
        """The newest step that verifies, on the devices and shardings of `like`; None if there is none.

        Args:
          like: a tree of arrays of the shapes expected; its shardings are today's.
          warn: told, in one line each, of the steps that do not verify. They are moved to `damaged/`
            beside the checkpoints, so that the resumed run can write these steps again.
        """
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._restore_verified(step, abstract)
            except Exception as error:  # damaged bytes raise whatever they happen to hit in Orbax and below
                reason = " ".join(str(error).split())[:160] or type(error).__name__
                place = self._set_aside(step)
                warn(f"WARNING: checkpoint {step} is damaged ({reason}); moved to {place}, trying an older one")
        return None

    def _restore_verified(self, step: int, abstract: Any) -> Restored:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=args)
        item = dict(restored.meta)
        if item.pop("self", None) != _digest_json(item):
            raise ValueError("its notes do not match their SHA-256")
        found = leaf_digests(restored.state)
        wrong = sorted(k for k in found.keys() | item["leaves"].keys() if found.get(k) != item["leaves"].get(k))
        if wrong:
            raise ValueError(f"SHA-256 of {wrong[0]} differs from the one written")
        return Restored(step, restored.state, item["meta"])

    def _set_aside(self, step: int) -> Path:
        damaged = self.folder.parent / "damaged"
        damaged.mkdir(exist_ok=True)
        n = sum(1 for _ in damaged.iterdir())
        place = damaged / f"{step}-{n}"
        (self.folder / str(step)).rename(place)
        self._manager.reload()
        return place


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


def check_same(meta: dict[str, Any], expected: dict[str, Any], where: Path) -> None:
    """Refuses a checkpoint of another config or of other data."""
    for what, value in expected.items():
        if meta.get(what) != value:
            raise UserError(
                f"{where} was trained with {what} {meta.get(what)}, this run has {value}: "
                "use another --workdir, or the data it was trained on"
            )
