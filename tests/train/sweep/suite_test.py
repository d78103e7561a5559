"""A suite on a planted set: rows run and resume, the table says what was measured, and which order fails."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest

from demjax.checks import UserError
from demjax.cli import tables
from demjax.protocols import Column
from demjax.protocols.gzsl import draw_curves
from demjax.protocols.zsl import draw_pairs_of_hubs
from demjax.train.evaluate import correction_for
from demjax.train.sweep import results
from demjax.train.sweep import suite as suite_module
from demjax.train.sweep.results import publish, remarks
from demjax.train.sweep.suite import Order, Row, Suite, config_of, run_suite
from demjax.user_code import load_python

CONFIGS = Path(__file__).parents[3] / "configs"
SMALL = {
    "data.name": "planted",
    "data.planted.n_classes": 20,
    "data.planted.n_unseen": 5,
    "data.planted.n_features": 24,
    "data.planted.images_per_class": 10,
    "log.tensorboard": False,
}
DEM = {"task.hidden": 16, "train.epochs": 2, "train.passes_per_epoch": 3}
ROWS = (
    Row("dem", "cub.py", DEM, selected="elsewhere", published={"zsl/top1": 51.7}, note="the paper's own"),
    Row("ridge", "cub_baseline.py:ridge", {"select.grid": (("task.l2", (0.1, 10.0)),)}),
)
SUITE = Suite(
    "A planted suite",
    ROWS,
    ("nobody has published this",),
    orders=(
        Order("dem", "ridge", "gzsl/harmonic", "DEM above ridge in H"),
        Order("dem", "dem_hinge", "zsl/top1", "DEM: least squares above hinge in T1"),
    ),
    pictures={"curves.png": draw_curves, "hubs.png": lambda f, r: draw_pairs_of_hubs(f, r, (("dem", "eszsl"),))},
)


def test_runs_and_resumes_and_publishes(tmp_path):
    said = []
    outcome = run_suite(SUITE, CONFIGS, tmp_path, changes=SMALL, seeds=2, say=said.append)
    reports = outcome.reports
    assert {name: len(own) for name, own in reports.items()} == {"dem": 2, "ridge": 1}
    dem = reports["dem"][0]["metrics"]
    assert "gzsl_calibrated/harmonic" in dem and "corrected/gzsl_calibrated/harmonic" in dem
    assert reports["ridge"][0]["config"]["task.l2"] in (0.1, 10.0)
    steps = [p.name for p in (tmp_path / "dem" / "runs" / "checkpoints").iterdir() if p.name.isdigit()]
    assert steps == ["2"]  # dozens of rows and their twins fill a disk: one step of each is kept

    said.clear()
    again = run_suite(SUITE, CONFIGS, tmp_path, changes=SMALL, seeds=2, only=["ridge"], say=said.append).reports
    assert again["ridge"][0]["metrics"] == reports["ridge"][0]["metrics"] and list(again) == ["ridge"]
    assert any("selected before" in line for line in said) and not any(line.startswith("setting") for line in said)

    markdown = publish(SUITE, outcome, tmp_path, published=True)
    assert "other data" in markdown and "51.7" not in markdown  # a planted set is not the paper's
    reports["dem"][0]["provenance"]["sources"]["features"] = "res101.mat"
    reports["dem"][0]["provenance"]["split_version"] = "ps1"
    markdown = publish(SUITE, outcome, tmp_path, published=True)
    assert "| 51.7 |" in markdown and "nobody has published this" in markdown and "±" in markdown
    assert "DEM above ridge in H" in markdown and "selected on validation classes" in markdown
    rows = list(csv.reader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row[0] for row in rows] == ["method", "dem", "ridge"] and len({len(r) for r in rows}) == 1
    assert json.loads((tmp_path / "table.json").read_text())["dem"]["metrics"][1] == reports["dem"][1]["metrics"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG") and not (tmp_path / "hubs.png").exists()


def test_a_part_of_a_suite_adds_to_its_table(tmp_path, capsys):
    file = tmp_path / "configs" / "suites" / "two.py"
    file.parent.mkdir(parents=True)
    (file.parents[1] / "cub_baseline.py").write_text((CONFIGS / "cub_baseline.py").read_text())
    file.write_text(
        "from demjax.train.sweep.suite import Row, Suite\n"
        "def get_suite():\n"
        "    rows = [Row(n, f'cub_baseline.py:{n}', {'select.grid': ()}, 'nowhere') for n in ('ridge', 'eszsl')]\n"
        "    return Suite('two', tuple(rows))\n"
    )
    settings = [f"--set={key}={value}" for key, value in SMALL.items()]
    for name in ("ridge", "eszsl"):
        given = [f"--suite={file}", f"--workdir={tmp_path / 'w'}", *settings, "--only", name]
        assert tables.main(given) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][-2:] == [
        "ridge",
        "eszsl",
    ]
    other = [f"--set={key}={21 if key.endswith('n_classes') else value}" for key, value in SMALL.items()]
    assert tables.main([f"--suite={file}", f"--workdir={tmp_path / 'w'}", *other, "--only", "ridge"]) == 1
    told = capsys.readouterr().out
    assert "* ridge **failed**" in told and "holds a run with another config" in told and "| eszsl |" in told


def test_a_row_that_fails_does_not_take_the_others_along(tmp_path, monkeypatch, capsys):
    run_row = suite_module.run_row

    def first_fails(row, *args):
        if row.name == "dem":
            raise UserError("loss is nan")
        return run_row(row, *args)

    monkeypatch.setattr(suite_module, "run_row", first_fails)
    tables_seen = []
    outcome = run_suite(
        SUITE, CONFIGS, tmp_path, changes=SMALL, seeds=1, say=print,
        each=lambda o: tables_seen.append(publish(SUITE, o, tmp_path)),
    )  # fmt: skip
    assert list(outcome.reports) == ["ridge"] and outcome.failed == {"dem": "loss is nan"}
    assert "No row is done." in tables_seen[0] and "* dem **failed**: loss is nan" in tables_seen[1]
    assert "| dem | - |" in tables_seen[1] and "row dem failed: loss is nan" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "changes", "told"),
    [
        ((ROWS[0], dataclasses.replace(ROWS[0], changes={"task.score": "cosin"}, name="b")), {}, "row b: task.score"),
        ((ROWS[0], ROWS[0]), {}, "names rows twice: dem"),
        (ROWS[:1], {"seeds": 0}, "--seeds is 0"),
    ],
)
def test_mistakes_come_before_the_first_row(tmp_path, rows, changes, told):
    with pytest.raises(UserError, match=told):
        run_suite(Suite("", rows), CONFIGS, tmp_path, changes=SMALL, seeds=changes.get("seeds", 1), say=print)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_suite(capsys):
    assert tables.main(["--suite", str(CONFIGS / "cub.py")]) == 1
    assert "has no get_suite()" in capsys.readouterr().err
    assert tables.main(["--suite", str(CONFIGS.parent / "README.md")]) == 1
    assert "expected a Python file" in capsys.readouterr().err


def test_a_selection_of_another_question_is_refused(tmp_path):
    run_suite(SUITE, CONFIGS, tmp_path, changes=SMALL, seeds=1, only=["ridge"], say=lambda line: None)
    wider = dataclasses.replace(ROWS[1], changes={"select.grid": (("task.l2", (0.1, 10.0, 99.0)),)})
    outcome = run_suite(Suite("", (wider,)), CONFIGS, tmp_path, changes=SMALL, seeds=1, say=lambda line: None)
    assert "selected with other settings: choose another --workdir" in outcome.failed["ridge"]
    with pytest.raises(UserError, match="has no rows"):
        run_suite(Suite("empty", ()), CONFIGS, tmp_path, changes={}, seeds=1, say=lambda line: None)


def row(**metrics):
    return [{"metrics": metrics}]


def test_an_order_that_does_not_hold_is_said():
    lines = remarks(SUITE, {"dem": row(**{"zsl/top1": 0.5}), "dem_hinge": row(**{"zsl/top1": 0.6})})
    assert lines == ["DEM: least squares above hinge in T1: does **not** hold (50.00 against 60.00)."]
    assert remarks(SUITE, {"dem": row(**{"zsl/top1": 0.5})}) == []


def test_a_row_of_several_vectors_an_image_has_every_column(tmp_path):
    row = Row("latem", "cub_baseline.py:latem", {"train.epochs": 1, "train.passes_per_epoch": 1}, selected="elsewhere")
    changes = SMALL | {"data.planted.images_per_class": 6}
    found = run_suite(Suite("one row", (row,)), CONFIGS, tmp_path, changes=changes, seeds=1, say=lambda line: None)
    metrics = found.reports["latem"][0]["metrics"]
    assert not found.failed and {"corrected/zsl/top1", "corrected/gzsl_calibrated/harmonic"} <= set(metrics)


A = Column("a", "A")


def test_undefined_numbers_are_a_dash():
    assert results.mean_and_deviation([{"metrics": {"a": 0.5}}, {"metrics": {"a": None}}], A) is None
    assert results.mean_and_deviation(
        [{"metrics": {"a": 0.25}}, {"metrics": {"a": 0.75}}], Column("a", "A")
    ) == pytest.approx((50, 100 * (2 * 0.25**2) ** 0.5))


@pytest.mark.parametrize(("name", "most", "on_request"), [("cub", 30, 2), ("cub_sje", 15, 1)])
def test_every_row_of_the_suite_has_a_config(name, most, on_request):
    suite = load_python(CONFIGS / "suites" / f"{name}.py").get_suite()
    assert len({row.name for row in suite.rows}) == len(suite.rows) >= most
    assert sum(row.on_request for row in suite.rows) == on_request
    for one in suite.rows:
        config = config_of(one, CONFIGS, {"data.features": "vgg19"})
        assert config.data.features == "vgg19"
        assert one.selected != "here" or config.select.grid


def test_a_row_on_request_runs_only_when_named(tmp_path):
    suite = Suite("a suite", (Row("more", "no file", on_request=True),))
    settings = dict(changes={}, seeds=1, say=lambda line: None)
    with pytest.raises(UserError, match="has no rows"):
        run_suite(suite, CONFIGS, tmp_path, **settings)
    with pytest.raises(UserError, match="no file: no such file"):
        run_suite(suite, CONFIGS, tmp_path, only=["more"], **settings)


@pytest.mark.parametrize("score", ["cosine", "euclidean", "dot"])
def test_corrections_fit(score):
    assert correction_for(score) == {"cosine": "csls", "euclidean": "nicdm", "dot": "csls"}[score]


def test_mistakes(tmp_path, capsys):
    with pytest.raises(UserError, match="did you mean 'dem'"):
        run_suite(SUITE, CONFIGS, tmp_path, changes=SMALL, seeds=1, only=["dmm"])
    with pytest.raises(UserError, match="unknown key 'data.nam': did you mean 'data.name'"):
        run_suite(SUITE, CONFIGS, tmp_path, changes={"data.nam": "x"}, seeds=1)
    assert tables.main(["--suite", str(tmp_path / "none.py")]) == 1
    assert tables.main(["--suite", str(CONFIGS / "suites" / "cub.py"), "--set", "data.dir"]) == 1
    told = capsys.readouterr().err
    assert "none.py: no such file" in told and "expected KEY=VALUE" in told
