"""The register of tasks, and tasks from a user's file."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from demjax import user_code
from demjax.checks import UserError, choose
from demjax.data import Spec
from demjax.protocols import Protocol
from demjax.tasks.task import Task
from demjax.tasks.zsl.amp import amp
from demjax.tasks.zsl.ba import ba
from demjax.tasks.zsl.class_norm import class_norm
from demjax.tasks.zsl.cmt import cmt
from demjax.tasks.zsl.compatibility import ale, devise, latem, sje
from demjax.tasks.zsl.conse import conse
from demjax.tasks.zsl.cvc import cvc
from demjax.tasks.zsl.dap_iap import dap, iap
from demjax.tasks.zsl.dem import dem
from demjax.tasks.zsl.dem_text import dem_text
from demjax.tasks.zsl.ds_sje import ds_sje
from demjax.tasks.zsl.linear import eszsl, ridge, sae
from demjax.tasks.zsl.sse import sse
from demjax.tasks.zsl.sync import sync

ZERO_SHOT = (
    dem, dem_text, class_norm, ds_sje, ridge, eszsl, sae, amp, sje, devise, ale, latem, conse, iap, dap, cmt, ba, cvc,
    sync, sse,
)  # fmt: skip
TASKS: dict[str, Callable[..., Task]] = {task.__name__: task for task in ZERO_SHOT}


def find_task(name: str) -> Callable[..., Task]:
    """The function that builds a task: a key of TASKS, or FILE.py:NAME from a user's file.

    Raises:
      UserError: an unknown name, a file that raises.
    """
    return user_code.load_object(name) if user_code.is_reference(name) else choose("task.name", name, TASKS)


def settings_of(name: str) -> dict[str, Any]:
    """The settings of a task with their defaults: its keyword arguments."""
    _, *settings = inspect.signature(find_task(name)).parameters.values()
    if wrong := [p.name for p in settings if p.kind is not p.KEYWORD_ONLY or p.default is p.empty]:
        raise UserError(
            f"{name}: its argument {wrong[0]!r} is no setting: expected `def NAME(spec, *, {wrong[0]}=DEFAULT)`"
        )
    return {p.name: p.default for p in settings}


def make_task(name: str, spec: Spec, settings: Mapping[str, Any]) -> Task:
    """The task of a name with these settings, for data of the shapes in `spec`.

    Raises:
      UserError: an unknown name or setting, a value out of range; of a user's file also whatever it raises.
    """
    make = find_task(name)
    if not user_code.is_reference(name):
        return make(spec, **settings)
    file = user_code.file_of(name)
    with user_code.errors_of(file):
        task = make(spec, **settings)
    if not isinstance(task, Task):
        raise UserError(f"{file}: {name.rpartition(':')[2]} returns {type(task).__name__}: expected demjax.tasks.Task")
    if task.solve is None:
        for field in ("init", "loss", "batchings"):
            if not getattr(task, field):
                raise UserError(f"{file}: the task {task.name} lacks {field}: expected it, or solve for a closed form")
    if not task.protocols or not all(isinstance(protocol, Protocol) for protocol in task.protocols):
        raise UserError(
            f"{file}: the protocols of {task.name} are {task.protocols!r}: expected demjax.protocols.Protocol"
        )
    return user_code.guarded(task, file)
