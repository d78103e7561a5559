"""What a suite shows: the table in three formats, the orders that hold, and the pictures of the suite."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demjax.protocols import Column
from demjax.train.run_folder.folder import naming, write_json, write_text
from demjax.train.sweep.suite import Outcome, Row, Suite

Reports = Sequence[Mapping[str, Any]]


def mean_and_deviation(reports: Reports, column: Column) -> tuple[float, float] | None:
    """(mean, sample deviation) of a metric over the seeds, percent where its unit is "%"; None where it is undefined in
    one of them."""
    values = [r["metrics"].get(column.metric) for r in reports]
    if not values or any(v is None for v in values):
        return None
    factor = 100.0 if column.unit == "%" else 1.0
    return factor * float(np.mean(values)), factor * float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def columns_of(suite: Suite, outcome: Outcome) -> tuple[Column, ...]:
    """Those of the suite, else those of the first report."""
    if suite.columns or not outcome.reports:
        return suite.columns
    return tuple(Column(**c) for c in next(iter(outcome.reports.values()))[0]["columns"])


def lines_of(suite: Suite, outcome: Outcome, published: bool) -> list[list[str]]:
    """The table as text, headings first."""
    columns = columns_of(suite, outcome)
    in_papers = [c for c in columns if any(c.metric in row.published for row in suite.rows)]
    heads = ["method", "semantics", "seeds", *(c.heading for c in columns), "train s", "setting"]
    if published:
        heads.append(f"published {' / '.join(c.heading for c in in_papers)}".strip())
    rows = [heads]
    for row in suite.rows:
        if row.name in outcome.failed:
            rows.append([row.name, *["-"] * (len(heads) - 1)])
        if row.name not in outcome.reports:
            continue
        reports = outcome.reports[row.name]
        cells = [row.name, _semantics(reports[0]), str(len(reports))]
        cells += [_cell(mean_and_deviation(reports, c), c, len(reports)) for c in columns]
        cells.append(f"{np.mean([r['seconds']['train'] for r in reports]):.1f}")
        objective = reports[0]["config"]["select.objective"]
        cells.append(f"selected on validation classes, by {objective}" if row.selected == "here" else row.selected)
        if published:
            cells.append(_published(row, in_papers) if _is_the_published_data(reports[0]) else "other data")
        rows.append(cells)
    return rows


def _semantics(report: Mapping[str, Any]) -> str:
    """What the classes are known by: a task that reads sentences does not look at the class table."""
    sources = report["provenance"]["sources"]
    reads = "task.encoder" in report["config"] and report["config"]["task.encoder"] != "attributes"
    fused = " + " + sources["semantics"] if report["config"].get("task.fused") else ""
    return f"captions: {sources['descriptions']}{fused}" if reads else sources["semantics"]


def _cell(numbers: tuple[float, float] | None, column: Column, seeds: int) -> str:
    if numbers is None:
        return "-"
    mean, deviation = numbers
    digits = 1 if column.unit == "%" else 2
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}" if seeds > 1 else f"{mean:.{digits}f}"


def _published(row: Row, columns: Sequence[Column]) -> str:
    return " / ".join(f"{row.published[c.metric]:.1f}" if c.metric in row.published else "-" for c in columns)


def _is_the_published_data(report: Mapping[str, Any]) -> bool:
    provenance = report["provenance"]
    return provenance["sources"]["features"].startswith("res101") and provenance["split_version"] in ("ps1", "ps2")


def publish(suite: Suite, outcome: Outcome, workdir: Path, *, published: bool = False) -> str:
    """Writes table.md, table.csv, table.json and, with matplotlib, the pictures of the suite; returns the Markdown."""
    reports, rows = outcome.reports, lines_of(suite, outcome, published)
    conditions = _conditions(suite, next(iter(reports.values()))[0]) if reports else "No row is done."
    text = [f"# {suite.title}", "", conditions, ""]
    text += ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    text += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    notes = [*suite.notes, *(f"{r.name}: {r.note}" for r in suite.rows if r.note and r.name in reports)]
    failed = [f"{name} **failed**: {why}" for name, why in outcome.failed.items()]
    text += ["", *(f"* {note}" for note in [*failed, *notes, *remarks(suite, reports)])]
    markdown = "\n".join(text) + "\n"
    write_text(workdir / "table.md", markdown)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    write_text(workdir / "table.csv", table.getvalue())
    numbers = {
        name: {"config": r[0]["config"], "metrics": [x["metrics"] for x in r], "provenance": r[0]["provenance"]}
        for name, r in reports.items()
    }
    write_json(workdir / "table.json", json.loads(json.dumps(numbers)))
    if reports:
        _draw(suite, reports, workdir)
    return markdown


def _conditions(suite: Suite, report: Mapping[str, Any]) -> str:
    provenance, config = report["provenance"], report["config"]
    data = (
        f"{config['data.name']}, features {provenance['sources']['features']} "
        f"({provenance['fingerprints']['features']}), split {provenance['split_version']} "
        f"({provenance['fingerprints']['splits']}), {provenance['devices']}. Percent, per-class averages, mean ± std "
        "over seeds."
    )
    return data + (CALIBRATED if suite.calibrated else "")


CALIBRATED = (
    " Calibrated: penalty on seen classes chosen on validation classes by a twin of the run. "
    "Hub-corrected: CSLS (cosine, inner products) or NICDM (Euclidean), bank: seen training images, inductive."
)


def remarks(suite: Suite, reports: Mapping[str, Reports]) -> list[str]:
    """Which of the orders that are expected hold here, and which do not, with the numbers."""
    lines = []
    for order in suite.orders:
        if order.better not in reports or order.worse not in reports:
            continue
        column = Column(order.metric, order.claim, order.unit)
        high, low = (mean_and_deviation(reports[name], column) for name in (order.better, order.worse))
        if high and low:
            verdict = "holds" if high[0] > low[0] else "does **not** hold"
            lines.append(f"{order.claim}: {verdict} ({high[0]:.2f} against {low[0]:.2f}).")
    return lines


def _draw(suite: Suite, reports: Mapping[str, Reports], workdir: Path) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return
    for name, draw in suite.pictures.items():
        figure = Figure(layout="constrained")
        if draw(figure, reports):
            FigureCanvasAgg(figure)
            with naming(workdir / name):
                figure.savefig(workdir / name, dpi=110)
