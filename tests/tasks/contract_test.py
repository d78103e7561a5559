"""What the engine asks of every task: it compiles `init`, so nothing in there may look at values."""

import jax
import pytest

from demjax.data import load
from demjax.tasks import TASKS, Task

DATA = load(
    "planted",
    planted=dict(n_classes=8, n_unseen=2, n_attributes=6, n_features=5, images_per_class=6),
    descriptions="generated",
)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_solved_or_begins_under_jit(name):
    task = TASKS[name](DATA)
    assert isinstance(task, Task)
    if task.solve:
        assert task.init is None
        return
    assert task.init is not None and task.loss is not None
    assert jax.tree.leaves(jax.eval_shape(task.init, jax.random.key(0)))
