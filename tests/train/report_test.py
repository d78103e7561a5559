import json

import pytest

from demjax.train import report as report_module
from demjax.train.evaluate import Evaluation
from demjax.train.report import Reporter, make_report, read_records, table
from demjax.train.workdir import write_json

METRICS = {
    "zsl/top1": 0.5, "zsl/micro": 0.25, "gzsl/unseen": 0.2, "gzsl/seen": 0.6, "gzsl/harmonic": 0.3,
    "gzsl/unseen_micro": 0.2, "gzsl/seen_micro": 0.6, "hubness/n1_skewness": float("nan"),
}  # fmt: skip


def report_in(folder, **changes):
    parts = dict(
        config={"seed": 0},
        evaluation=Evaluation(
            METRICS, {"001.Black_footed_Albatross": 0.9, "b": 0.1}, {"b": 7, "001.Black_footed_Albatross": 3}
        ),
        seconds={"train": 1.23456, "evaluate": 0.1, "total": 2.0},
        provenance={},
        bayes={},
        best_on_test=None,
    )
    report = make_report(**(parts | changes))
    write_json(folder / "report.json", report)
    return report


def test_undefined_numbers_are_null_and_the_file_is_strict_json(tmp_path):
    report_in(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert report["metrics"]["hubness/n1_skewness"] is None
    assert report["seconds"]["train"] == 1.235
    assert not list(tmp_path.glob("*.part"))


def test_table_is_percent_and_names_what_is_not_selected(tmp_path):
    told = table(report_in(tmp_path, bayes={"zsl/top1": 0.987}, best_on_test={"zsl/top1": 0.512}))
    head, ours, bayes, best, classes, hubs = told.splitlines()
    assert head.split()[:4] == ["T1", "U", "S", "H"]
    assert ours.split()[2:6] == ["50.0", "20.0", "60.0", "30.0"] and ours.split()[-1] == "-"
    assert "Bayes" in bayes and "98.7" in bayes
    assert "best on test, not selected" in best and "51.2" in best
    assert "Black footed Albatross 90" in classes and "b 7" in hubs


def test_lines_of_epochs_to_come_and_torn_lines_go_on_resume(tmp_path, monkeypatch):
    said, clock = [], iter((100.0, 100.5, 101.0))  # the first line came after compiling: it does not count
    monkeypatch.setattr(report_module.time, "monotonic", lambda: next(clock))
    reporter = Reporter(tmp_path, 9, tensorboard=False, say=said.append)
    for epoch in (1, 2, 3):
        reporter.epoch(epoch, epoch * 10, 0.5, {"train/loss": 1.0 / epoch})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "st')
    reporter.rewind(2)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[1]["train/loss"] == 0.5 and lines[1]["step"] == 20
    assert said[2] == "epoch 3/9 | loss 0.33333 | 0.5 s | eta 3.0 s"


def test_tensorboard_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboardX")
    reporter = Reporter(tmp_path, 1, tensorboard=True, say=lambda line: None)
    reporter.epoch(1, 1, 0.1, {"train/loss": 1.0})
    reporter.close()
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_without_tensorboard_nothing_breaks(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    Reporter(tmp_path, 1, tensorboard=True, say=lambda line: None).epoch(1, 1, 0.1, {"train/loss": 1.0})
    assert (tmp_path / "metrics.jsonl").exists()


def test_a_torn_last_line_is_left_out(tmp_path):
    """A kill while the line was written; an evaluation of that run must not fail on it."""
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "gzsl/harmonic": 0.5, "zsl/top1": 0.4}\n{"epoch": 2, "gz')
    assert [r["epoch"] for r in read_records(tmp_path)] == [1]
