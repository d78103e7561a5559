"""What a suite shows: the table in three formats, the seen-unseen curves, and the hubs of either direction."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demjax.train.suite import Outcome, Row, Suite
from demjax.train.workdir import write_json, write_text

Reports = Sequence[Mapping[str, Any]]

# (metric, heading) in percent; calibrated: with the penalty found on validation classes.
COLUMNS = (
    ("zsl/top1", "T1"),
    ("gzsl/unseen", "U"),
    ("gzsl/seen", "S"),
    ("gzsl/harmonic", "H"),
    ("gzsl_calibrated/unseen", "U calibrated"),
    ("gzsl_calibrated/seen", "S calibrated"),
    ("gzsl_calibrated/harmonic", "H calibrated"),
    ("gzsl/ausuc", "AUSUC"),
    ("corrected/zsl/top1", "T1 hub-corrected"),
    ("corrected/gzsl_calibrated/harmonic", "H hub-corrected, calibrated"),
)
SKEWNESS = "hubness/n1_skewness"


def row_numbers(reports: Reports, metric: str, factor: float = 100.0) -> tuple[float, float] | None:
    """(mean, sample deviation) of a metric over the seeds; None where it is undefined in one of them."""
    values = [r["metrics"].get(metric) for r in reports]
    if not values or any(v is None for v in values):
        return None
    return factor * float(np.mean(values)), factor * float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def lines_of(suite: Suite, outcome: Outcome, published: bool) -> list[list[str]]:
    """The table as text, headings first."""
    columns = suite.columns or COLUMNS
    heads = ["method", "semantics", "seeds", *(h for _, h in columns), "N1 skewness", "train s", "setting"]
    if published:
        heads += ["published T1 / U / S / H"]
    rows = [heads]
    for row in suite.rows:
        if row.name in outcome.failed:
            rows.append([row.name, *["-"] * (len(heads) - 1)])
        if row.name not in outcome.reports:
            continue
        own = outcome.reports[row.name]
        cells = [row.name, _semantics(own[0]), str(len(own))]
        cells += [_cell(row_numbers(own, metric), 1, len(own)) for metric, _ in columns]
        cells.append(_cell(row_numbers(own, SKEWNESS, 1.0), 2, len(own)))
        cells.append(f"{np.mean([r['seconds']['train'] for r in own]):.1f}")
        objective = own[0]["config"]["select.objective"]
        cells.append(f"selected on validation classes, by {objective}" if row.selected == "here" else row.selected)
        if published:
            cells.append(_published(row) if _is_the_published_data(own[0]) else "other data")
        rows.append(cells)
    return rows


def _semantics(report: Mapping[str, Any]) -> str:
    """What the classes are known by: a task that reads sentences does not look at the class table."""
    sources = report["provenance"]["sources"]
    reads = "task.encoder" in report["config"] and report["config"]["task.encoder"] != "attributes"
    fused = " + " + sources["semantics"] if report["config"].get("task.fused") else ""
    return f"captions: {sources['descriptions']}{fused}" if reads else sources["semantics"]


def _cell(numbers: tuple[float, float] | None, digits: int, seeds: int) -> str:
    if numbers is None:
        return "-"
    mean, deviation = numbers
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}" if seeds > 1 else f"{mean:.{digits}f}"


def _published(row: Row) -> str:
    wanted = ("zsl/top1", "gzsl/unseen", "gzsl/seen", "gzsl/harmonic")
    return " / ".join(f"{row.published[m]:.1f}" if m in row.published else "-" for m in wanted)


def _is_the_published_data(report: Mapping[str, Any]) -> bool:
    told = report["provenance"]
    return told["sources"]["features"].startswith("res101") and told["split_version"] in ("ps1", "ps2")


def publish(suite: Suite, outcome: Outcome, workdir: Path, *, published: bool = False) -> str:
    """Writes table.md, table.csv, table.json and, with matplotlib, curves.png and hubs.png; returns the Markdown."""
    reports, rows = outcome.reports, lines_of(suite, outcome, published)
    conditions = _conditions(suite, next(iter(reports.values()))[0]) if reports else "No row is done."
    text = [f"# {suite.title}", "", conditions, ""]
    text += ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    text += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    notes = [*suite.notes, *(f"{r.name}: {r.note}" for r in suite.rows if r.note and r.name in reports)]
    failed = [f"{name} **failed**: {why}" for name, why in outcome.failed.items()]
    text += ["", *(f"* {note}" for note in [*failed, *notes, *remarks(reports)])]
    markdown = "\n".join(text) + "\n"
    write_text(workdir / "table.md", markdown)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    write_text(workdir / "table.csv", table.getvalue())
    numbers = {
        name: {"config": own[0]["config"], "metrics": [r["metrics"] for r in own], "provenance": own[0]["provenance"]}
        for name, own in reports.items()
    }
    write_json(workdir / "table.json", json.loads(json.dumps(numbers)))
    if reports:
        _draw(reports, workdir)
    return markdown


def _conditions(suite: Suite, report: Mapping[str, Any]) -> str:
    told, config = report["provenance"], report["config"]
    data = (
        f"{config['data.name']}, features {told['sources']['features']} ({told['fingerprints']['features']}), split "
        f"{told['split_version']} ({told['fingerprints']['splits']}), {told['devices']}. Percent, per-class averages, "
        "mean ± std over seeds."
    )
    return data + (CALIBRATED if suite.calibrated else "")


CALIBRATED = (
    " Calibrated: penalty on seen classes found on validation classes by a twin of the run. "
    "Hub-corrected: CSLS (cosine, inner products) or NICDM (Euclidean), bank: seen training images, inductive."
)


CLOSED_FORMS = ("ridge", "ridge_to_semantic", "eszsl", "sae", "sae_to_semantic")
# (better, worse, metric, what the literature says)
ORDERS = (
    ("dem", "dem_to_semantic", "zsl/top1", "DEM: semantic->visual above visual->semantic in T1"),
    ("dem", "dem_hinge", "zsl/top1", "DEM: least squares above hinge in T1"),
    ("ridge", "ridge_to_semantic", "zsl/top1", "ridge: semantic->visual above visual->semantic in T1"),
    *(("dem", other, "gzsl/harmonic", f"DEM above {other} in H") for other in CLOSED_FORMS),
    *(("dem", other, "gzsl_calibrated/harmonic", f"DEM above {other} in H, both calibrated") for other in CLOSED_FORMS),
    ("dem", "amp", "zsl/top1", "DEM above amp in T1"),
    ("dem_fused", "dem", "zsl/top1", "DEM: attributes and sentences above attributes in T1"),
    ("dem_fused", "dem_sentences", "zsl/top1", "DEM: attributes and sentences above sentences in T1"),
    ("dem_fused", "dem_sentences", "gzsl/harmonic", "DEM: attributes and sentences above sentences in H"),
    ("dem_hinge", "dem_to_semantic_hinge", "zsl/top1", "DEM, hinge: semantic->visual above visual->semantic in T1"),
    ("dem_hinge", "dem_to_semantic_hinge", "gzsl/harmonic", "DEM, hinge: semantic->visual above visual->semantic in H"),
    ("dem_to_semantic", "dem_to_semantic_hinge", "zsl/top1", "DEM, visual->semantic: least squares above hinge in T1"),
    ("dem_captions_fused", "dem", "zsl/top1", "DEM: attributes and captions above attributes in T1"),
    ("dem_captions_fused", "dem_captions", "zsl/top1", "DEM: attributes and captions above captions in T1"),
    ("dem_captions_fused", "dem_captions", "gzsl/harmonic", "DEM: attributes and captions above captions in H"),
    ("class_norm", "dem", "gzsl/harmonic", "class-normalised DEM above DEM in H"),
    (
        "class_norm_fused",
        "class_norm",
        "zsl/top1",
        "class-normalised DEM: attributes and sentences above attributes in T1",
    ),
    (
        "class_norm_fused",
        "class_norm_sentences",
        "zsl/top1",
        "class-normalised DEM: attributes and sentences above sentences in T1",
    ),
    (
        "class_norm_fused",
        "class_norm_sentences",
        "gzsl/harmonic",
        "class-normalised DEM: attributes and sentences above sentences in H",
    ),
    ("dem_to_semantic_hinge", "dem_hinge", SKEWNESS, "N1 skewness: visual->semantic above semantic->visual (hinge)"),
    ("dem_to_semantic", "dem", SKEWNESS, "N1 skewness: visual->semantic above semantic->visual (DEM)"),
    ("ridge_to_semantic", "ridge", SKEWNESS, "N1 skewness: visual->semantic above semantic->visual (ridge)"),
)


def remarks(reports: Mapping[str, Reports]) -> list[str]:
    """Which expected orders hold here, and which do not, with the numbers."""
    told = []
    for better, worse, metric, claim in ORDERS:
        if better not in reports or worse not in reports:
            continue
        factor = 1.0 if metric == SKEWNESS else 100.0
        high, low = row_numbers(reports[better], metric, factor), row_numbers(reports[worse], metric, factor)
        if high and low:
            verdict = "holds" if high[0] > low[0] else "does **not** hold"
            told.append(f"{claim}: {verdict} ({high[0]:.2f} against {low[0]:.2f}).")
    return told


def _draw(reports: Mapping[str, Reports], workdir: Path) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(8, 7), layout="constrained")
    _draw_curves(figure.subplots(), reports)
    FigureCanvasAgg(figure)
    figure.savefig(workdir / "curves.png", dpi=110)
    pairs = [p for p in (("dem", "dem_to_semantic"), ("ridge", "ridge_to_semantic")) if set(p) <= reports.keys()]
    if pairs:
        figure = Figure(figsize=(9, 3.4 * len(pairs)), layout="constrained")
        for axes, pair in zip(
            np.atleast_2d(figure.subplots(len(pairs), 2, sharex="row", sharey="row")), pairs, strict=True
        ):
            _draw_hubs(axes, pair, reports)
        FigureCanvasAgg(figure)
        figure.savefig(workdir / "hubs.png", dpi=110)


def _draw_curves(axes: Any, reports: Mapping[str, Reports]) -> None:
    """The curve of the first seed of the ten rows with the largest area: there are ten colours."""
    found = {name: row_numbers(own, "gzsl/ausuc") for name, own in reports.items()}
    area = {name: numbers[0] for name, numbers in found.items() if numbers}
    ranked = sorted(area, key=lambda name: -area[name])[:10]
    for name in ranked:
        first = reports[name][0]
        (line,) = axes.plot(first["curve"]["unseen"], first["curve"]["seen"], label=f"{name}  {area[name]:.1f}")
        point = first["metrics"]
        axes.plot(point["gzsl/unseen"], point["gzsl/seen"], "o", color=line.get_color())
        if "gzsl_calibrated/unseen" in point:
            at = point["gzsl_calibrated/unseen"], point["gzsl_calibrated/seen"]
            axes.plot(*at, "*", markersize=12, color=line.get_color())
    axes.set(xlabel="accuracy on unseen classes", ylabel="accuracy on seen classes", xlim=(0, None), ylim=(0, None))
    axes.set_title("Seen against unseen for every penalty (dot: none, star: found on validation)", fontsize=10)
    axes.legend(title="AUSUC", fontsize=8)


def _draw_hubs(axes: Any, pair: tuple[str, str], reports: Mapping[str, Reports]) -> None:
    counts = [np.array(list(reports[name][0]["n1"].values())) for name in pair]
    edges = np.linspace(0, max(c.max() for c in counts) + 1, 26)
    for one, name, n1 in zip(axes, pair, counts, strict=True):
        skew = reports[name][0]["metrics"][SKEWNESS]
        one.hist(n1, bins=edges, color="tab:orange")
        one.axvline(n1.mean(), color="black", linewidth=1)
        shown = "undefined" if skew is None else f"{skew:.2f}"
        one.set_title(f"{name}: N_1 skewness {shown}", fontsize=10)
        one.set_xlabel("unseen images that have the class nearest")
    axes[0].set_ylabel("unseen classes")
