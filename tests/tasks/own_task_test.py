"""The example of demjax/tasks/README.md is run as it stands there."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from demjax.train.config import default_config, quick
from demjax.train.fit import train_and_evaluate
from demjax.train.restore import restore_run
from demjax.train.sweep.select import select

PAGE = Path(__file__).parents[2] / "demjax" / "tasks" / "README.md"


@pytest.fixture
def config(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(code.splitlines()) <= 60
    (tmp_path / "my_task.py").write_text(code)
    config = default_config(f"{tmp_path / 'my_task.py'}:linear")
    quick(config)
    config.log.tensorboard = False
    config.train.update(epochs=3, passes_per_epoch=300, batch_size=0)
    config.optimizer.update(name="adam", learning_rate=0.03)
    return config


def test_the_example_trains_and_is_judged(config, tmp_path):
    report = train_and_evaluate(config, tmp_path / "run", devices=jax.devices()[:1], say=lambda line: None)
    metrics = report["metrics"]
    assert metrics["zsl/micro"] <= metrics["top5/accuracy"] == 1  # there are five unseen classes
    assert [c["heading"] for c in report["columns"]][:2] == ["T1", "in 5"]
    restored = restore_run(tmp_path / "run", data=False)
    data = restore_run(tmp_path / "run").dataset
    ids = data.splits["trainval"]
    y, x = data.semantics[data.labels[ids]].astype(np.float64), data.features[ids]
    closed = np.linalg.solve(y.T @ y / len(y) + 0.01 * np.eye(8), y.T @ x / len(y))
    np.testing.assert_allclose(restored.variables.params, closed, atol=0.02)
    vectors = np.eye(8, dtype=np.float32)
    classes = restored.task.embed["class"](restored.variables, {"semantics": vectors})
    np.testing.assert_allclose(classes, restored.variables.params, rtol=1e-6)


def test_the_example_is_selected_by_its_own_objective(config, tmp_path):
    config.train.passes_per_epoch = 2
    config.select.grid, config.select.seeds = (("task.l2", (0.0, 100.0)),), 1
    selection = select(config, tmp_path / "select", say=lambda line: None)
    assert selection["objective"] == "top5/accuracy"
