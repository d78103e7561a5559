"""The picture of a run has the loss and the part of every protocol that draws."""

import pytest

from demjax.protocols import GZSL, TEXT_RETRIEVAL, ZSL
from demjax.train.plots import draw

LOSSES = [{"epoch": 1, "train/loss": 2.0}, {"epoch": 2, "train/loss": 1.0}]


def report(n_classes, skew=1.5):
    names = [f"{i:03d}.Bird_{i}" for i in range(n_classes)]
    accuracy = {name: i / n_classes for i, name in enumerate(names)}
    return {
        "metrics": {"zsl/top1": 0.5, "hubness/n1_skewness": skew},
        "details": {"zsl": {"unseen_accuracy": accuracy, "n1": {name: i % 7 for i, name in enumerate(names)}}},
    }


@pytest.mark.parametrize("n_classes", [1, 50, 300])
def test_classes_are_ranked_and_named(n_classes):
    pytest.importorskip("matplotlib")
    figure = draw(report(n_classes), LOSSES, (ZSL, GZSL, TEXT_RETRIEVAL))
    loss, hubs, classes = figure.axes
    names = [label.get_text() for label in classes.get_yticklabels()]
    assert len(names) == min(n_classes, 60) and names[0] == "Bird 0" and names[-1] == f"Bird {n_classes - 1}"
    assert ("left out" in classes.get_xlabel()) == (n_classes > 60)
    assert sum(bar.get_height() for bar in hubs.patches) == n_classes
    assert loss.lines[0].get_ydata().tolist() == [2.0, 1.0]


def test_undefined_skewness_is_said():
    pytest.importorskip("matplotlib")
    assert draw(report(3, skew=None), [], (ZSL,)).axes[1].get_title() == "N1 skewness undefined"


def test_a_report_without_the_metrics_of_zero_shot_learning_is_drawn():
    """It was a KeyError, and a run that resumes was evaluated again and again."""
    pytest.importorskip("matplotlib")
    plain = {"metrics": {"other/recall": 0.5}, "details": {}}
    (loss,) = draw(plain, LOSSES, (ZSL, GZSL)).axes
    assert loss.get_xlabel() == "epoch"
    negative = [{"epoch": e, "train/loss": -float(e)} for e in (1, 2)]
    assert draw(plain, negative, ()).axes[0].get_yscale() == "linear"


def test_the_curve_of_every_penalty():
    pytest.importorskip("matplotlib")
    metrics = {"gzsl/ausuc": 0.25, "gzsl/unseen": 0.2, "gzsl/seen": 0.6}
    metrics |= {"gzsl_calibrated/unseen": 0.4, "gzsl_calibrated/seen": 0.5}
    curve = {"unseen": [0.0, 0.2, 0.5], "seen": [0.7, 0.6, 0.0]}
    axes = draw({"metrics": metrics, "details": {"gzsl": {"curve": curve}}}, [], (ZSL, GZSL)).axes[1]
    line, dot, star = axes.lines
    assert list(line.get_xdata()) == curve["unseen"] and (*dot.get_xdata(), *dot.get_ydata()) == (0.2, 0.6)
    assert (*star.get_xdata(), *star.get_ydata()) == (0.4, 0.5)
