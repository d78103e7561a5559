import copy
import json

import pytest

from demjax.checks import UserError
from demjax.cli.tables import over_seeds, read_reports
from demjax.protocols import GZSL, ZSL
from demjax.train.report import columns_of

COLUMNS = columns_of((ZSL, GZSL))

REPORT = {
    "config": {"seed": 0, "data.name": "CUB", "task.l2": 0.1, "data.dir": "a", "train.epochs": 4},
    "metrics": {column.metric: 0.5 for column in COLUMNS} | {"hubness/n1_skewness": 1.0},
    "columns": [column._asdict() for column in COLUMNS],
    "seconds": {"train": 4.0},
    "provenance": {
        "fingerprints": {"features": "x"},
        "fold": "test",
        "epoch": 4,
        "sources": {"features": "f.mat", "semantics": "s"},
    },
}


def variant(**changes):
    report = copy.deepcopy(REPORT)
    report["config"] |= {k: v for k, v in changes.items() if k in report["config"]}
    report["metrics"] |= {k: v for k, v in changes.items() if k in report["metrics"]}
    return report


def test_mean_and_sample_std_by_hand():
    reports = [variant(seed=s, **{"zsl/top1": t, "data.dir": str(s)}) for s, t in ((0, 0.50), (1, 0.52), (2, 0.54))]
    row = over_seeds(reports).splitlines()[2]
    assert "| 3 | 52.0 ± 2.0 |" in row and "4.0 ± 0.0 |" in row


def test_other_settings_or_data_are_other_rows():
    other = variant()
    other["provenance"]["fingerprints"]["features"] = "y"
    lines = over_seeds([variant(), variant(**{"task.l2": 0.2}), other]).splitlines()
    assert len(lines) == 2 + 3
    assert "task.l2 0.1" in lines[2] and "task.l2 0.2" in lines[3]  # told apart


def test_one_run_twice_is_not_two_seeds():
    with pytest.raises(UserError, match="seeds .0, 0. of one setting"):
        over_seeds([variant(), variant()])


def test_an_undefined_number_is_a_dash():
    assert over_seeds([variant(**{"hubness/n1_skewness": None})]).splitlines()[2].count("| - |") == 1


def test_bad_folders(tmp_path):
    with pytest.raises(UserError, match="report.json: no such file"):
        read_reports([str(tmp_path)])
    (tmp_path / "report.json").write_text(json.dumps(REPORT)[:30])
    with pytest.raises(UserError, match="report.json"):
        read_reports([str(tmp_path)])
    for content in ("[]", "{}"):
        (tmp_path / "report.json").write_text(content)
        with pytest.raises(UserError, match="is not a report of this version of demjax: expected columns, config"):
            read_reports([str(tmp_path)])
    with pytest.raises(UserError, match="no such file"):
        read_reports([str(tmp_path / "report.json")])


def test_an_unfinished_run_is_refused(tmp_path):
    report = copy.deepcopy(REPORT)
    report["provenance"]["epoch"] = 3
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(UserError, match="is of epoch 3 of 4: finish the run"):
        read_reports([str(tmp_path)])
