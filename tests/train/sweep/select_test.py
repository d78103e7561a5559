import json

import pytest

from demjax.checks import UserError
from demjax.data import load
from demjax.train import data_cache
from demjax.train.config import default_config, quick
from demjax.train.sweep import select as select_module
from demjax.train.sweep.select import select, select_and_train

PLANTED = dict(n_classes=20, n_unseen=5, n_attributes=8, n_features=32, images_per_class=10)


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
    assert said[-1].startswith("selected: --config.task.l2=") and "--config.train.epochs=" in said[-1]
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


def test_the_best_mean_over_seeds_wins_with_its_epoch(tmp_path, monkeypatch):
    curves = {"001-seed0": [0.1, 0.5], "001-seed1": [0.3, 0.1], "002-seed0": [0.4, 0.3], "002-seed1": [0.4, 0.3]}
    monkeypatch.setattr(select_module, "train_and_evaluate", lambda *args, **kwargs: None)
    monkeypatch.setattr(select_module, "_curve", lambda folder, objective: curves[folder.name])
    selection = select(tiny(**{"select.seeds": 2}), tmp_path, say=lambda line: None)
    assert selection["winner"]["setting"] == {"task.l2": 0.1} and selection["winner"]["epochs"] == 1
    assert [row["value"] for row in selection["tried"]] == pytest.approx([0.3, 0.4])
    assert selection["tried"][0]["epochs"] == 2


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


def test_mistakes_in_a_grid_are_found_before_anything_runs(tmp_path):
    for grid, told in (
        ((("train.epochs", (2, 0)),), "train.epochs is 0"),
        ((("train.epochs", (2, "many")),), "select.grid: --config.train.epochs=many"),
    ):
        with pytest.raises(UserError, match=told) as error:
            select(tiny(**{"select.grid": grid}), tmp_path, say=lambda line: None)
        assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_with_a_schedule_only_the_last_epoch_counts(tmp_path, monkeypatch):
    """The selected number of epochs must rebuild the selected run: under a schedule a shorter one is another."""
    monkeypatch.setattr(select_module, "train_and_evaluate", lambda *args, **kwargs: None)
    monkeypatch.setattr(select_module, "_curve", lambda folder, objective: [0.1, 0.9, 0.5])
    selection = select(tiny(**{"optimizer.schedule": "cosine"}), tmp_path, say=lambda line: None)
    assert (selection["winner"]["epochs"], selection["winner"]["value"]) == (3, 0.5)
    grid = (("optimizer.schedule", ("constant",)),)
    selection = select(tiny(**{"optimizer.schedule": "cosine", "select.grid": grid}), tmp_path, say=lambda line: None)
    assert selection["winner"]["epochs"] == 2


def test_one_flag_selects_and_trains(tmp_path):
    report = select_and_train(tiny(**{"select.grid": (("task.l2", (0.0, 100.0)),)}), tmp_path, say=lambda line: None)
    winner = json.loads((tmp_path / "selection.json").read_text())["winner"]
    assert report["provenance"]["fold"] == "test" and report["provenance"]["epoch"] == winner["epochs"]
    assert report["config"]["task.l2"] == winner["setting"]["task.l2"]
    assert json.loads((tmp_path / "best" / "report.json").read_text()) == report


def test_what_no_objective_reads_is_left_to_the_winner(tmp_path):
    """A correction for the score of some settings only is no obstacle to a search, but one to training the winner."""
    scores = (("task.score", ("cosine", "euclidean")),)
    config = tiny(**{"select.grid": scores, "evaluate.correction": "csls", "evaluate.hits": (1, 2)})
    select(config, tmp_path / "a", say=lambda line: None)
    assert "zsl/hit@1" not in (tmp_path / "a" / "001-seed0" / "metrics.jsonl").read_text()
    with pytest.raises(UserError, match="task.score=euclidean: evaluate.correction 'csls' is for cosine or dot"):
        select_and_train(config, tmp_path / "b", say=lambda line: None)
    assert not (tmp_path / "b").exists()
    config.evaluate.correction = "auto"
    report = select_and_train(config, tmp_path / "b", say=lambda line: None)
    assert {"zsl/hit@1", "corrected/zsl/top1"} <= set(report["metrics"])


def test_a_population_by_its_last_names(tmp_path):
    config = tiny()
    config.population = dict(seeds=2, learning_rate=(1e-3, 3e-3))
    report = select_and_train(config, tmp_path, say=lambda line: None)
    assert (
        report["config"]["optimizer.learning_rate"] == 1e-3
        and len(list((tmp_path / "best" / "members").iterdir())) == 4
    )


def test_folds_hold_out_other_classes_and_are_averaged(tmp_path, monkeypatch):
    folds = []
    monkeypatch.setattr(
        select_module, "train_and_evaluate", lambda config, *args, **kwargs: folds.append(config.data.fold)
    )
    monkeypatch.setattr(select_module, "_curve", lambda folder, objective: [0.1 * len(folds)])
    selection = select(
        tiny(**{"select.folds": 3, "select.grid": (("task.l2", (0.1,)),)}), tmp_path, say=lambda line: None
    )
    assert folds == ["val", "val2", "val3"] and selection["winner"]["value"] == pytest.approx(0.2)
    views = [load("planted", planted=PLANTED, fold=fold) for fold in folds]
    held_out = [{view.classes[c] for c in view.unseen} for view in views]
    assert len({frozenset(h) for h in held_out}) == 3 and len({len(h) for h in held_out}) == 1
    whole = load("planted", planted=PLANTED)
    for view in views:
        assert view.is_validation_view and not set(view.classes) & {whole.classes[c] for c in whole.unseen}


def test_random_search_draws_some_of_the_grid(tmp_path, monkeypatch):
    monkeypatch.setattr(select_module, "train_and_evaluate", lambda *args, **kwargs: None)
    monkeypatch.setattr(select_module, "_curve", lambda folder, objective: [0.1])
    grid = (("task.l2", (0.1, 0.2, 0.3)), ("optimizer.learning_rate", (1e-3, 2e-3, 3e-3)))
    tried = [
        [row["setting"] for row in select(config, tmp_path, say=lambda line: None)["tried"]]
        for config in (tiny(**{"select.grid": grid, "select.samples": 4, "seed": seed}) for seed in (0, 0, 1))
    ]
    assert tried[0] == tried[1] != tried[2] and len({str(s) for s in tried[0]}) == 4


def test_a_setting_that_diverges_has_lost(tmp_path):
    said, grid = [], (("optimizer.learning_rate", (1e30, 1e-3)),)
    selection = select(tiny(**{"select.grid": grid, "optimizer.name": "sgd"}), tmp_path, say=said.append)
    assert selection["winner"]["setting"] == {"optimizer.learning_rate": 1e-3}
    assert selection["tried"][0]["value"] is None and any("lower optimizer.learning_rate" in line for line in said)
    with pytest.raises(UserError, match="all 1 settings of select.grid diverged"):
        only = tiny(**{"select.grid": (("optimizer.learning_rate", (1e30,)),), "optimizer.name": "sgd"})
        select(only, tmp_path / "other", say=said.append)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"select.objective": "hubness/n1_skewness"}, "select.objective, for task dem, is 'hubness/n1_skewness'"),
        ({"select.objective": "gzsl/best_penalty"}, "select.objective, for task dem, is 'gzsl/best_penalty'"),
        ({"select.grid": (("data.fold", ("test", "val")),)}, "'data.fold', which is not to be selected"),
        ({"select.grid": (("population.seeds", (2, 3)),)}, "'population.seeds', which is not to be selected"),
        ({"select.grid": (("task.l2", 0.1),)}, "expected .*key, .value"),
        ({"select.grid": (("task.l2", (0.1,)), ("task.l2", (0.2,)))}, "every key and every value once"),
        ({"select.grid": (("task.l2", (0.1, -1.0)),)}, "task.l2 is -1"),
    ],
)
def test_grids_and_objectives_are_checked_first(tmp_path, changes, told):
    with pytest.raises(UserError, match=told):
        select(tiny(**changes), tmp_path, say=lambda line: None)
    assert not list(tmp_path.iterdir())


def test_an_objective_the_task_does_not_have(tmp_path, get_config):
    config = get_config("cub_baseline", "quick")
    amp = default_config("amp")
    amp.data, amp.log = config.data, config.log
    amp.select.grid, amp.select.objective = (("task.l2", (0.1,)),), "gzsl/harmonic"
    with pytest.raises(UserError, match="select.objective, for task amp, is 'gzsl/harmonic': did you mean 'zsl/micro'"):
        select(amp, tmp_path, say=lambda line: None)


def test_the_winner_with_several_seeds(tmp_path):
    config = tiny(**{"select.grid": (("task.l2", (0.1,)),), "population.seeds": 2})
    report = select_and_train(config, tmp_path, say=lambda line: None)
    assert sorted(p.name for p in (tmp_path / "best" / "members").iterdir()) == ["000", "001"]
    assert report["config"]["seed"] == 0 and report["provenance"]["fold"] == "test"


def test_sets_are_read_once_for_all_settings(tmp_path, monkeypatch):
    """A search reads the validation view; with the winner trained, too, the whole set, of which views are made."""
    read, load_one = [], data_cache.load
    monkeypatch.setattr(data_cache, "load", lambda **settings: read.append(settings["fold"]) or load_one(**settings))
    grid = {"select.grid": (("task.l2", (0.1, 1.0)),)}
    select(tiny(**grid), tmp_path / "a", say=lambda line: None)
    assert read == ["val"]
    read.clear()
    select_and_train(
        tiny(**grid, **{"evaluate.calibrate": True, "select.folds": 2}), tmp_path / "b", say=lambda line: None
    )
    assert read == ["test"]


def test_the_usual_objective_of_a_task(tmp_path, get_config):
    """`auto`: the first objective of its last protocol that has one."""
    assert (
        select(tiny(**{"select.objective": "auto"}), tmp_path / "dem", say=lambda line: None)["objective"]
        == "gzsl/harmonic"
    )
    amp = default_config("amp")
    quick(amp)
    amp.log.tensorboard, amp.select.grid = False, (("task.l2", (0.1,)),)
    assert select(amp, tmp_path / "amp", say=lambda line: None)["objective"] == "zsl/top1"
