"""One readable file per paper, and the register of their names."""

import inspect
from collections.abc import Callable
from typing import Any

from demjax.checks import choose
from demjax.tasks import (
    amp,
    class_norm,
    compatibility,
    dem,
    dem_text,
    description,
    linear,
    networks,
    probabilities,
    synthesis,
)
from demjax.tasks.task import Task as Task

TASKS: dict[str, Callable[..., Task]] = {
    task.__name__: task
    for task in (
        dem.dem, dem_text.dem_text, class_norm.class_norm, description.description,
        linear.ridge, linear.eszsl, linear.sae, amp.amp,
        compatibility.sje, compatibility.devise, compatibility.ale, compatibility.latem,
        probabilities.conse, probabilities.iap, probabilities.dap,
        networks.cmt, networks.ba, networks.cvc,
        synthesis.sync, synthesis.sse,
    )
}  # fmt: skip


def settings_of(name: str) -> dict[str, Any]:
    """The settings of a task with their defaults: its keyword arguments."""
    parameters = inspect.signature(choose("task.name", name, TASKS)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
