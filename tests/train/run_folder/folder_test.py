import json
import multiprocessing

import pytest

from demjax.checks import UserError
from demjax.train.config import default_config
from demjax.train.run_folder.folder import claim, open_folder, write_json
from tests.waiting import HUNG


def changed(**changes):
    config = default_config()
    config.update_from_flattened_dict(changes)
    return config


def test_claim_then_the_same_again(tmp_path):
    claim(tmp_path, default_config())
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0
    claim(tmp_path, default_config())


def test_where_the_data_lie_may_change(tmp_path):
    claim(tmp_path, default_config())
    claim(tmp_path, changed(**{"data.dir": "elsewhere", "log.tensorboard": False}))


def test_every_key_that_differs_is_listed(tmp_path):
    claim(tmp_path, default_config())
    with pytest.raises(UserError, match=r"\(seed: 0 there, 3 now; task.hidden: 1200 there, 7 now\)"):
        claim(tmp_path, changed(**{"seed": 3, "task.hidden": 7}))


def test_a_damaged_config_is_not_overwritten(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(UserError, match="config.json"):
        claim(tmp_path, default_config())
    assert (tmp_path / "config.json").read_text() == '{"seed": '


def test_somebody_elses_checkpoints_are_left_alone(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no config.json"):
        claim(tmp_path, default_config())


def _hold(folder, ready, done):
    with open_folder(folder):
        ready.set()
        done.wait(HUNG)


def test_the_lock_is_between_processes_and_dies_with_its_holder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, done))
    holder.start()
    assert ready.wait(HUNG)
    with pytest.raises(UserError, match=f"in use by another run .process {holder.pid} on"):
        with open_folder(tmp_path):
            pass
    holder.kill()
    holder.join()
    with open_folder(tmp_path) as folder:
        assert folder == tmp_path


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})  # strict JSON has no NaN
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
