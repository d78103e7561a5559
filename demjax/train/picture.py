"""One picture of a run: the loss, the unseen classes, and how unevenly they are found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demjax.train.report import read_records, readable
from demjax.train.workdir import naming


def draw_to(workdir: Path, report: Mapping[str, Any]) -> Path | None:
    """Writes report.png beside report.json; None where matplotlib (the extra `plots`) is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError:
        return None
    figure = draw(report, read_records(workdir, report["provenance"]["epoch"]))
    FigureCanvasAgg(figure)
    target, partial = workdir / "report.png", workdir / "report.part.png"
    with naming(target):
        try:
            figure.savefig(partial, dpi=110)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return target


def draw(report: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Any:
    """The matplotlib figure: loss by epoch, accuracy of each unseen class, histogram of N_1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=(2, 3))
    left, right = parts
    loss, hubs = left.subplots(2, 1)
    trained = [r for r in records if "train/loss" in r]
    if trained:
        loss.plot([r["epoch"] for r in trained], [r["train/loss"] for r in trained], color="tab:blue")
        loss.set(xlabel="epoch", ylabel="training loss", yscale="log")
    else:
        loss.text(0.5, 0.5, "closed form: no training", ha="center", va="center")
        loss.set_axis_off()
    _draw_hubs(hubs, report)
    _draw_classes(right.subplots(), report)
    return figure


def _draw_hubs(axes: Any, report: Mapping[str, Any]) -> None:
    n1 = sorted(report["n1"].values())
    axes.hist(n1, bins=min(30, 1 + len(set(n1))), color="tab:orange")
    axes.axvline(sum(n1) / max(1, len(n1)), color="black", linewidth=1)
    skew = report["metrics"].get("hubness/n1_skewness")
    told = "undefined" if skew is None else f"{skew:.2f}"
    axes.set(
        xlabel="N1: unseen images that have a class nearest (line: mean)", ylabel="classes", title=f"N1 skewness {told}"
    )


def _draw_classes(axes: Any, report: Mapping[str, Any], most: int = 60) -> None:
    ranked = sorted(report["unseen_accuracy"].items(), key=lambda item: item[1])
    shown = ranked if len(ranked) <= most else ranked[: most // 2] + ranked[-(most // 2) :]
    axes.barh(range(len(shown)), [100 * accuracy for _, accuracy in shown], color="tab:green")
    axes.set_yticks(range(len(shown)), [readable(name) for name, _ in shown], fontsize=7)
    axes.margins(y=0.01)
    left_out = f" ({len(ranked) - len(shown)} in between left out)" if len(ranked) > len(shown) else ""
    top1 = 100 * report["metrics"]["zsl/top1"]
    axes.set(
        xlabel="% recognised among unseen classes" + left_out, xlim=(0, 100), title=f"unseen classes, mean {top1:.1f} %"
    )
