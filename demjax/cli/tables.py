"""Mean and standard deviation over seeds, from finished runs or from a suite that is run here.

  python -m demjax.tables runs/cub-0 runs/cub-1 runs/cub-2
  python -m demjax.tables --suite=configs/suites/cub.py --workdir=runs/suite --set data.dir=FOLDER

Runs that differ in nothing but their seed are one row; the std is that of a sample (n - 1). Several configs, data
sets or folds give several rows; the settings that distinguish them stand in the label. A population is named by its
folder. A suite runs its rows, or resumes them; it prints Markdown and writes table.md, table.csv, table.json,
curves.png and hubs.png into the workdir.
"""

import argparse
import ast
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from demjax.checks import UserError
from demjax.cli.exit import exit_status
from demjax.data.files import read_json
from demjax.protocols import Column
from demjax.train.config import is_free

KEYS = {"config", "metrics", "columns", "provenance", "seconds"}


def read_reports(workdirs: Iterable[str]) -> list[dict[str, Any]]:
    """The report.json of each workdir; of a population, those of its members.

    Raises:
      UserError: a folder has none, or it cannot be read.
    """
    return [_read(folder) for workdir in workdirs for folder in _members(Path(workdir))]


def _finished_before(suite: Any, workdir: Path, outcome: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows that an earlier command finished on the same images and splits: `--only` adds to a table."""
    reports = outcome.reports
    data = _images(next(iter(reports.values()))) if reports else None
    finished: dict[str, list[dict[str, Any]]] = {}
    for name in (row.name for row in suite.rows if row.name not in reports | outcome.failed):
        try:
            reports_of_row = read_reports([str(workdir / name / "runs")])
        except UserError:
            continue  # never run, or not to its end
        if data is None or _images(reports_of_row) == data:
            data = _images(reports_of_row)
            finished[name] = reports_of_row
    return finished


def _images(reports: list[dict[str, Any]]) -> tuple[str, str]:
    fingerprints = reports[0]["provenance"]["fingerprints"]
    return fingerprints["features"], fingerprints["splits"]


def _members(workdir: Path) -> list[Path]:
    return sorted(p for p in (workdir / "members").glob("*") if p.is_dir()) or [workdir]


def _read(workdir: Path) -> dict[str, Any]:
    file = workdir / "report.json"
    if not file.is_file():
        raise UserError(f"{file}: no such file; the run is not finished, its command resumes it")
    report = read_json(file)
    if not isinstance(report, dict) or not KEYS <= report.keys():
        raise UserError(f"{file} is not a report of this version of demjax: expected {', '.join(sorted(KEYS))}")
    reached, wanted = report["provenance"]["epoch"], report["config"]["train.epochs"]
    if reached < wanted:
        raise UserError(f"{file} is of epoch {reached} of {wanted}: finish the run, its command resumes it")
    return report


def over_seeds(reports: Iterable[Mapping[str, Any]]) -> str:
    """A Markdown table in percent, `mean ± std`, one row for the runs that differ in their seed only."""
    groups = defaultdict(list)
    for report in reports:
        settings = {k: v for k, v in report["config"].items() if k != "seed" and not is_free(k)}
        same_data = report["provenance"]["fingerprints"]
        groups[json.dumps([settings, same_data], sort_keys=True)].append(report)
    reports = [group[0] for group in groups.values()]
    columns = list(dict.fromkeys(Column(**c) for report in reports for c in report["columns"]))
    lines = ["| data, fold, semantics | seeds | " + " | ".join(c.heading for c in columns) + " | train s |"]
    lines.append("|---" * (len(columns) + 3) + "|")
    configs = [group[0]["config"] for group in groups.values()]
    keys = sorted({k for config in configs for k in config if not is_free(k)} - {"seed", "data.name"})
    telling = [k for k in keys if len({json.dumps(config.get(k)) for config in configs}) > 1]
    for group in groups.values():
        first = group[0]
        seeds = [r["config"]["seed"] for r in group]
        if len(set(seeds)) < len(seeds):
            raise UserError(f"seeds {sorted(seeds)} of one setting: expected different ones; is a run named twice?")
        sources = first["provenance"]["sources"]
        data, fold = first["config"]["data.name"], first["provenance"]["fold"]
        label = f"{data}, {fold}, {sources['features']} {sources['semantics']}"
        label += "".join(f", {k} {first['config'].get(k)}" for k in telling)
        cells = [cell([_shown(r["metrics"].get(c.metric), c) for r in group], 1 if c.unit else 2) for c in columns]
        cells.append(cell([r["seconds"]["train"] for r in group], 1))
        lines.append(f"| {label} | {len(group)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shown(value: float | None, column: Column) -> float | None:
    return None if value is None else value * (100 if column.unit == "%" else 1)


def cell(values: list[float | None], digits: int) -> str:
    """`mean ± std`; a dash where a number is undefined in one of the runs."""
    numbers = [v for v in values if v is not None]
    if len(numbers) < len(values) or not numbers:
        return "-"
    mean = f"{np.mean(numbers):.{digits}f}"
    return mean if len(numbers) == 1 else f"{mean} ± {np.std(numbers, ddof=1):.{digits}f}"


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m demjax.tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdirs", nargs="*", help="folders of finished runs or populations")
    parser.add_argument("--suite", help="a file with get_suite(), as configs/suites/cub.py")
    parser.add_argument("--workdir", default="runs/suite", help="of the suite (default runs/suite)")
    parser.add_argument("--seeds", type=int, default=5, help="of every trained row (default 5)")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="ROW", help="only these rows; the table keeps what else is done"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all rows")
    parser.add_argument("--published", action="store_true", help="the paper's numbers beside ours: same features only")
    return parser.parse_args(argv)


def _changes(settings: list[str]) -> dict[str, Any]:
    """KEY=VALUE as Python reads the value, else as text."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: expected KEY=VALUE, as in --set data.dir=FOLDER")
        try:
            changes[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            changes[key] = value
    return changes


def main(argv: list[str]) -> int:
    """0, or 1 for a mistake (one line) and for a suite with rows that failed."""
    try:
        return _answer(_arguments(argv))
    except UserError as mistake:
        print(f"demjax: error: {mistake}", file=sys.stderr)
        return 1


def _answer(args: argparse.Namespace) -> int:
    if args.suite:
        from demjax.train.sweep.results import publish
        from demjax.train.sweep.suite import run_suite
        from demjax.user_code import load_python

        file, workdir = Path(args.suite), Path(args.workdir).expanduser()
        module = load_python(file)
        if not hasattr(module, "get_suite"):
            raise UserError(f"{file} has no get_suite(): expected a suite, as configs/suites/cub.py")
        suite, folder = module.get_suite(), file.resolve().parents[1]

        def table(outcome: Any) -> str:
            before = _finished_before(suite, workdir, outcome)
            everything = outcome._replace(reports=before | outcome.reports)
            return publish(suite, everything, workdir, published=args.published)

        changes, seeds = _changes(args.set), args.seeds
        outcome = run_suite(suite, folder, workdir, changes=changes, seeds=seeds, only=args.only, each=table)
        print(table(outcome))
        return 1 if outcome.failed else 0
    elif args.workdirs:
        print(over_seeds(read_reports(args.workdirs)))
    else:
        print(__doc__)
    return 0


def run() -> None:
    """The command line: exit status 0, or 1 for a mistake and for a suite with rows that failed."""
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
