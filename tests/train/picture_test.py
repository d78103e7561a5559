import pytest

from demjax.train.picture import draw


def report(n_classes, skew=1.5):
    return {
        "metrics": {"zsl/top1": 0.5, "hubness/n1_skewness": skew},
        "unseen_accuracy": {f"{i:03d}.Bird_{i}": i / n_classes for i in range(n_classes)},
        "n1": {f"{i:03d}.Bird_{i}": i % 7 for i in range(n_classes)},
    }


@pytest.mark.parametrize("n_classes", [1, 50, 300])
def test_classes_are_ranked_and_named(n_classes):
    pytest.importorskip("matplotlib")
    figure = draw(report(n_classes), [{"epoch": 1, "train/loss": 2.0}, {"epoch": 2, "train/loss": 1.0}])
    loss, hubs, classes = figure.axes
    names = [label.get_text() for label in classes.get_yticklabels()]
    assert len(names) == min(n_classes, 60) and names[0] == "Bird 0" and names[-1] == f"Bird {n_classes - 1}"
    assert ("left out" in classes.get_xlabel()) == (n_classes > 60)
    assert sum(bar.get_height() for bar in hubs.patches) == n_classes
    assert loss.lines[0].get_ydata().tolist() == [2.0, 1.0]


def test_undefined_skewness_is_said():
    pytest.importorskip("matplotlib")
    assert draw(report(3, skew=None), []).axes[1].get_title() == "N1 skewness undefined"
