"""Mean and standard deviation over seeds, from the reports of finished runs.

  python -m demjax.tables runs/cub-0 runs/cub-1 runs/cub-2

Runs that differ in nothing but their seed are one row; the std is that of a sample (n - 1). Several
configs, data sets or folds give several rows; the settings that distinguish them stand in the label.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from demjax.checks import UserError
from demjax.train.config import FREE_KEYS
from demjax.train.report import COLUMNS


def read_reports(workdirs: Iterable[str]) -> list[dict[str, Any]]:
    """The report.json of each workdir.

    Raises:
      UserError: a folder has none, or it cannot be read.
    """
    reports = []
    for workdir in workdirs:
        file = Path(workdir) / "report.json"
        try:
            report = json.loads(file.read_text())
        except FileNotFoundError as error:
            raise UserError(f"{file}: no such file; the run is not finished, its command resumes it") from error
        except (OSError, ValueError) as error:
            raise UserError(f"{file} is not a report ({error})") from error
        if not isinstance(report, dict) or not {"config", "metrics", "provenance", "seconds"} <= report.keys():
            raise UserError(f"{file} is not a report of demjax: expected config, metrics, provenance and seconds")
        reached, wanted = report["provenance"]["epoch"], report["config"]["train.epochs"]
        if reached < wanted:
            raise UserError(f"{file} is of epoch {reached} of {wanted}: finish the run, its command resumes it")
        reports.append(report)
    return reports


def over_seeds(reports: Iterable[Mapping[str, Any]]) -> str:
    """A Markdown table in percent, `mean ± std`, one row for the runs that differ in their seed only."""
    groups = defaultdict(list)
    for report in reports:
        settings = {k: v for k, v in report["config"].items() if k not in ("seed", *FREE_KEYS)}
        same_data = report["provenance"]["fingerprints"]
        groups[json.dumps([settings, same_data], sort_keys=True)].append(report)
    lines = ["| data, fold, semantics | seeds | " + " | ".join(h for _, h in COLUMNS) + " | N1 skew | train s |"]
    lines.append("|---" * (len(COLUMNS) + 4) + "|")
    configs = [group[0]["config"] for group in groups.values()]
    keys = sorted({k for config in configs for k in config} - {"seed", "data.name", *FREE_KEYS})
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
        cells = [_cell([100 * r["metrics"][metric] for r in group], 1) for metric, _ in COLUMNS]
        cells.append(_cell([r["metrics"]["hubness/n1_skewness"] for r in group], 2))
        cells.append(_cell([r["seconds"]["train"] for r in group], 1))
        lines.append(f"| {label} | {len(group)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[float | None], digits: int) -> str:
    """`mean ± std`; a dash where a number is undefined in one of the runs."""
    numbers = [v for v in values if v is not None]
    if len(numbers) < len(values):
        return "-"
    mean = f"{np.mean(numbers):.{digits}f}"
    return mean if len(numbers) == 1 else f"{mean} ± {np.std(numbers, ddof=1):.{digits}f}"


def main(workdirs: list[str]) -> int:
    if not workdirs or workdirs[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    try:
        print(over_seeds(read_reports(workdirs)))
    except UserError as mistake:
        print(f"demjax: error: {mistake}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
