import json

import pytest

from demjax.checks import UserError
from demjax.train import select as select_module
from demjax.train.config import default_config, quick
from demjax.train.select import _choose, select


def tiny(**changes):
    config = default_config()
    quick(config)
    config.log.tensorboard = False
    config.update_from_flattened_dict(changes)
    return config


def test_selects_on_validation_and_writes_everything(tmp_path):
    said = []
    grid = (("task.l2", (0.0, 100.0)), ("task.score", ("cosine",)))
    selection = select(tiny(**{"select.grid": grid}), tmp_path, say=said.append)
    assert selection == json.loads((tmp_path / "selection.json").read_text())
    assert [row["setting"]["task.l2"] for row in selection["tried"]] == [0.0, 100.0]
    assert all(len(row["curve"]) == 3 for row in selection["tried"])
    assert said[-1].startswith("selected gzsl/harmonic") and "--config.train.epochs=" in said[-1]
    for folder in ("001-seed0", "002-seed0"):
        provenance = json.loads((tmp_path / folder / "report.json").read_text())["provenance"]
        assert provenance["fold"] == "val" and provenance["split_version"] == "planted+val"


def test_no_test_image_reaches_selection(tmp_path, monkeypatch):
    seen = []
    run = select_module.train_and_evaluate

    def spy(config, *args, **kwargs):
        seen.append((config.data.fold, config.evaluate.every))
        return run(config, *args, **kwargs)

    monkeypatch.setattr(select_module, "train_and_evaluate", spy)
    select(tiny(), tmp_path, say=lambda line: None)
    assert set(seen) == {("val", 1)}


def test_fewest_epochs_within_the_tolerance():
    tried = [{"setting": "a", "curve": [0.1, 0.39, 0.40]}, {"setting": "b", "curve": [0.395, 0.2, 0.3]}]
    best, winner = _choose(tried, 0.0)
    assert (best, winner) == (winner, {"setting": "a", "epochs": 3, "value": 0.40})
    assert _choose(tried, 0.01)[1] == {"setting": "b", "epochs": 1, "value": 0.395}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"select.grid": ()}, "select.grid is empty"),
        ({"select.grid": (("task.l3", (1.0,)),)}, "did you mean 'task.l2'"),
        ({"select.objective": "gzsl/harmonc"}, "did you mean 'gzsl/harmonic'"),
    ],
)
def test_bad_grids(tmp_path, changes, told):
    with pytest.raises(UserError, match=told):
        select(tiny(**changes), tmp_path, say=lambda line: None)
