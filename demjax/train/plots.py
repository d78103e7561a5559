"""One picture of a run: the loss by epoch, and the part of every protocol that draws."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demjax.protocols import Protocol
from demjax.train.report import read_records
from demjax.train.run_folder.folder import naming


def draw_to(folder: Path, report: Mapping[str, Any], protocols: Sequence[Protocol]) -> Path | None:
    """Writes report.png beside report.json; None where matplotlib (the extra `plots`) is not installed."""
    try:
        import matplotlib.backends.backend_agg
    except ImportError:
        return None
    figure = draw(report, read_records(folder, report["provenance"]["epoch"]), protocols)
    matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
    target, partial = folder / "report.png", folder / "report.part.png"
    with naming(target):
        try:
            figure.savefig(partial, dpi=110)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return target


def draw(report: Mapping[str, Any], records: Sequence[Mapping[str, Any]], protocols: Sequence[Protocol]) -> Any:
    """The matplotlib figure; protocols whose details are not in the report are left out."""
    from matplotlib.figure import Figure

    parts = [(p.draw, report["details"][p.name]) for p in protocols if p.draw and p.name in report["details"]]
    figure = Figure(figsize=(5 + 7 * len(parts), 6), layout="constrained")
    whole: Any = figure.subfigures(1, 1 + len(parts), width_ratios=(5, *[7] * len(parts)), squeeze=False)[0]
    _draw_loss(whole[0].subplots(), records)
    for part, (draw_part, details) in zip(whole[1:], parts, strict=True):
        draw_part(part, report["metrics"], details)
    return figure


def _draw_loss(axes: Any, records: Sequence[Mapping[str, Any]]) -> None:
    trained = [r for r in records if r.get("train/loss") is not None]
    if not trained:
        axes.text(0.5, 0.5, "closed form: no training", ha="center", va="center")
        axes.set_axis_off()
        return
    losses = [r["train/loss"] for r in trained]
    axes.plot([r["epoch"] for r in trained], losses, color="tab:blue")
    axes.set(xlabel="epoch", ylabel="training loss", yscale="log" if min(losses) > 0 else "linear")
