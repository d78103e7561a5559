import json

import pytest

from demjax.protocols import GZSL, ZSL
from demjax.train import report as report_module
from demjax.train.evaluate import Evaluation
from demjax.train.report import Reporter, best_evaluated, make_report, read_records, table, write_records
from demjax.train.run_folder.folder import write_json

ALBATROSS, PROTOCOLS = "001.Black_footed_Albatross", (ZSL, GZSL)
METRICS = {
    "zsl/top1": 0.5, "zsl/micro": 0.25, "gzsl/unseen": 0.2, "gzsl/seen": 0.6, "gzsl/harmonic": 0.3,
    "gzsl/unseen_micro": 0.2, "gzsl/seen_micro": 0.6, "hubness/n1_skewness": float("nan"),
}  # fmt: skip


def report_in(folder, **changes):
    parts = dict(
        config={"seed": 0},
        evaluation=Evaluation(
            METRICS, {"zsl": {"unseen_accuracy": {ALBATROSS: 0.9, "b": 0.1}, "n1": {"b": 7, ALBATROSS: 3}}}
        ),
        protocols=PROTOCOLS,
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
    text = table(report_in(tmp_path, bayes={"zsl/top1": 0.987}, best_on_test={"zsl/top1": 0.512}), PROTOCOLS)
    head, ours, bayes, best, classes, hubs = text.splitlines()
    assert head.split()[:4] == ["T1", "U", "S", "H"]
    assert ours.split()[2:8] == ["50.0", "20.0", "60.0", "30.0", "25.0", "-"]
    assert "Bayes" in bayes and "98.7" in bayes
    assert "best on test, not selected" in best and "51.2" in best
    assert "Black footed Albatross 90" in classes and "b 7" in hubs


def test_lines_of_epochs_to_come_and_torn_lines_go_on_resume(tmp_path, monkeypatch):
    said, clock = [], iter((100.0, 100.5, 101.0))  # the first line came after compiling: it does not count
    monkeypatch.setattr(report_module.time, "monotonic", lambda: next(clock))
    reporter = Reporter(tmp_path, 9, 1, PROTOCOLS, tensorboard=False, say=said.append)
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
    reporter = Reporter(tmp_path, 1, 1, PROTOCOLS, tensorboard=True, say=lambda line: None)
    reporter.epoch(1, 1, 0.1, {"train/loss": 1.0})
    reporter.close()
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_without_tensorboard_nothing_breaks(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    Reporter(tmp_path, 1, 1, PROTOCOLS, tensorboard=True, say=lambda line: None).epoch(1, 1, 0.1, {"train/loss": 1.0})
    assert (tmp_path / "metrics.jsonl").exists()


def test_a_torn_last_line_is_left_out(tmp_path):
    """A kill while the line was written; an evaluation of that run must not fail on it."""
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "gzsl/harmonic": 0.5, "zsl/top1": 0.4}\n{"epoch": 2, "gz')
    assert [r["epoch"] for r in read_records(tmp_path)] == [1]


def test_the_best_of_each_protocol_is_that_of_its_own_epoch(tmp_path):
    """T1 is best in epoch 2, H in epoch 3; no later epoch than the last one counts."""
    rows = [(1, 0.1, 0.2), (2, 0.5, 0.3), (3, 0.4, 0.6), (4, 0.9, 0.9)]
    records = [{"epoch": e, "zsl/top1": t, "gzsl/harmonic": h, "gzsl/seen": h / 2} for e, t, h in rows]
    write_records(tmp_path, [*records, {"epoch": 3, "train/loss": 1.0}])
    assert best_evaluated(tmp_path, 3, PROTOCOLS) == {"zsl/top1": 0.5, "gzsl/harmonic": 0.6, "gzsl/seen": 0.3}
    assert best_evaluated(tmp_path / "none", 3, PROTOCOLS) == {}


def test_a_line_is_amended_where_it_stands(tmp_path):
    reporter = Reporter(tmp_path, 2, 2, PROTOCOLS, tensorboard=False, say=lambda line: None)
    for call in (1, 2, 3):
        reporter.epoch(call, call, 0.1, {"train/loss": 1.0})
    assert not reporter.is_evaluated(2)
    reporter.amend(2, {"other/recall": float("nan")})
    assert reporter.is_evaluated(2) and not reporter.is_evaluated(3)
    assert [r.get("other/recall", 0) for r in read_records(tmp_path)] == [0, None, 0]


def test_variants_are_rows_of_the_same_model():
    metrics = {"zsl/top1": 0.5, "gzsl/unseen": 0.2, "gzsl/seen": 0.6, "gzsl/harmonic": 0.3}
    calibrated = {"gzsl_calibrated/unseen": 0.4, "gzsl_calibrated/seen": 0.5, "gzsl_calibrated/harmonic": 0.44}
    corrected = {f"corrected/{k}": v / 2 for k, v in (metrics | calibrated).items()}
    report = make_report(
        config={}, evaluation=Evaluation(metrics | calibrated | corrected), protocols=(GZSL,), seconds={},
        provenance={}, bayes={}, best_on_test=None,
    )  # fmt: skip
    rows = [line.split() for line in table(report).splitlines()[1:]]
    assert rows[0][:5] == ["this", "run", "20.0", "60.0", "30.0"]
    assert rows[1][:4] == ["calibrated", "40.0", "50.0", "44.0"]
    assert rows[2][:4] == ["hub-corrected", "10.0", "30.0", "15.0"]
    assert rows[3][:5] == ["hub-corrected,", "calibrated", "20.0", "25.0", "22.0"]
