"""What a run reports: the line of an epoch, metrics.jsonl, TensorBoard, the final table and report.json."""

import contextlib
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from demjax import distributed
from demjax.progress import duration
from demjax.protocols import Column, Protocol
from demjax.train.evaluate import CORRECTED, Evaluation
from demjax.train.run_folder.folder import naming, write_text

Records = list[dict[str, Any]]
METRICS = "metrics.jsonl"


def columns_of(protocols: Iterable[Protocol]) -> list[Column]:
    """The columns of these protocols: those of the line of an epoch first, otherwise in their order."""
    return sorted((column for p in protocols for column in p.columns), key=lambda column: not column.progress)


class Reporter:
    """Writes the run's numbers as they come; one JSON line per compiled call, each once. Process 0 writes for all."""

    def __init__(
        self,
        folder: Path,
        total_epochs: int,
        chunks: int,
        protocols: Sequence[Protocol],
        *,
        tensorboard: bool,
        say=print,
    ):
        """`chunks` of an epoch, a line for each, where rows are streamed."""
        self.say, self._total, self._chunks = say, total_epochs, chunks
        self._file, self._columns = folder / METRICS, columns_of(protocols)
        self._writes = distributed.is_first()
        self._board = _summary_writer(folder) if tensorboard and self._writes else None
        self._times: list[float] = []  # of the lines of this session

    def rewind(self, call: int) -> None:
        """Drops lines of calls after `call`, and a torn last line: a resumed run writes them again."""
        self.replace([r for r in read_records(self._file.parent) if _call_of(r) <= call])

    def replace(self, records: Iterable[Mapping[str, Any]]) -> None:
        """metrics.jsonl anew."""
        with distributed.raise_in_all():
            if self._writes:
                write_records(self._file.parent, records)

    def is_evaluated(self, call: int) -> bool:
        """Whether the line of `call` has metrics; in a process that writes nothing, whether that of process 0 has."""
        here = self._writes and any(is_evaluated(r) for r in read_records(self._file.parent) if _call_of(r) == call)
        return any(distributed.any_of(here))

    def amend(self, call: int, values: Mapping[str, float]) -> None:
        """Adds metrics to the line of `call`."""
        records = read_records(self._file.parent) if self._writes else []
        self.replace([r | dict(values) if _call_of(r) == call else r for r in records])
        self._to_board(values, next((r.get("step", 0) for r in records if _call_of(r) == call), 0))

    def epoch(self, call: int, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """One line to metrics.jsonl, TensorBoard and the terminal."""
        with distributed.raise_in_all():
            if self._writes:
                self._epoch(call, step, seconds, values)

    def _epoch(self, call: int, step: int, seconds: float, values: Mapping[str, float]) -> None:
        epoch, chunk = 1 + (call - 1) // self._chunks, 1 + (call - 1) % self._chunks
        record = {"epoch": epoch, "step": step, "seconds": round(seconds, 4)} | dict(values)
        record |= {"call": call} if self._chunks > 1 else {}
        record |= {"time": round(time.time(), 3)}
        with naming(self._file), self._file.open("a") as out:
            out.write(json.dumps(finite(record)) + "\n")
        self._to_board(values, step)
        place = f"epoch {epoch:>{len(str(self._total))}}/{self._total}"
        place += f" chunk {chunk:>{len(str(self._chunks))}}/{self._chunks}" * (self._chunks > 1)
        parts = [place, f"loss {values['train/loss']:.5g}"]
        parts += [
            f"{c.heading} {cell(values[c.metric], c)}" for c in self._columns if c.progress and c.metric in values
        ]
        self.say(" | ".join([*parts, duration(seconds), f"eta {duration(self._left(call, seconds))}"]))

    def _left(self, call: int, seconds: float) -> float:
        """Seconds to the end, by the time from line to line, saves and evaluations included."""
        self._times.append(time.monotonic())
        lines = len(self._times) - 1
        each = (self._times[-1] - self._times[0]) / lines if lines else seconds
        return (self._total * self._chunks - call) * each

    def _to_board(self, values: Mapping[str, float], step: int) -> None:
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Ends the TensorBoard file."""
        if self._board:
            self._board.close()


def _summary_writer(folder: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))


def _call_of(record: Mapping[str, Any]) -> int:
    return record.get("call", record.get("epoch", 0))


def is_evaluated(record: Mapping[str, Any]) -> bool:
    """Whether a line of metrics.jsonl has metrics beside the losses."""
    return any("/" in name and not name.startswith("train/") for name in record)


def make_report(
    *,
    config: Mapping[str, Any],
    evaluation: Evaluation,
    protocols: Sequence[Protocol],
    seconds: Mapping[str, float],
    provenance: Mapping[str, Any],
    bayes: Mapping[str, float],
    best_on_test: Mapping[str, float] | None,
) -> dict[str, Any]:
    """What report.json holds: fractions, seconds, how tables show them, where the numbers come from. NaN is null."""
    report = {
        "config": config,
        "metrics": dict(evaluation.metrics),
        "details": dict(evaluation.details),
        "columns": [column._asdict() for column in columns_of(protocols)],
        "variants": {label: dict(v) for p in protocols for label, v in p.variants.items()},
        "seconds": {k: round(v, 3) for k, v in seconds.items()},
        "provenance": provenance,
    }
    if bayes:
        report["bayes"] = dict(bayes)
    if best_on_test:
        report["best_on_test"] = dict(best_on_test)
    return finite(report)


def write_records(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """metrics.jsonl anew."""
    write_text(folder / METRICS, "".join(json.dumps(finite(r)) + "\n" for r in records))


def read_records(folder: Path, last: int | None = None) -> Records:
    """The lines of metrics.jsonl, one per epoch, up to epoch `last`; none where there is no such file yet."""
    file, records = folder / METRICS, []
    for line in file.read_text().splitlines() if file.exists() else ():
        with contextlib.suppress(ValueError):  # a kill can tear the last line; the resumed run writes it again
            record = json.loads(line)
            if isinstance(record, dict) and "epoch" in record:
                records.append(record)
    return [r for r in records if last is None or r["epoch"] <= last]


def best_evaluated(folder: Path, last: int, protocols: Iterable[Protocol]) -> dict[str, float]:
    """Best of the evaluations on the way: what much of the literature prints, and nobody may select by.

    The columns of each protocol as they are in the epoch, up to `last`, with the largest first objective of that
    protocol. {} where there was no evaluation on the way (`evaluate.every`).
    """
    best: dict[str, float] = {}
    records = read_records(folder, last)
    for protocol in protocols:
        rated = [r for r in records if protocol.objectives and r.get(protocol.objectives[0]) is not None]
        if rated:
            top = max(rated, key=lambda r: r[protocol.objectives[0]])
            best |= {c.metric: top[c.metric] for c in protocol.columns if c.metric in top}
    return best


def table(report: Mapping[str, Any], protocols: Iterable[Protocol] = ()) -> str:
    """The table for people, in percent; on a planted set the best possible row stands below ours."""
    columns = [Column(**column) for column in report["columns"]]
    rows = [("this run", report["metrics"]), *_variants(report)]
    if "bayes" in report:
        rows.append(("best possible (Bayes)", report["bayes"]))
    if "best_on_test" in report:
        rows.append(("best on test, not selected", report["best_on_test"]))
    width = max(len(name) for name, _ in rows)
    widths = [max(10, len(c.heading) + 2) for c in columns]
    lines = [" " * width + "".join(f"{c.heading:>{w}}" for c, w in zip(columns, widths, strict=True))]
    for name, values in rows:
        cells = (f"{cell(values.get(c.metric), c):>{w}}" for c, w in zip(columns, widths, strict=True))
        lines.append(f"{name:<{width}}" + "".join(cells))
    for protocol in protocols:
        lines += protocol.lines(report["metrics"], report["details"].get(protocol.name, {}))
    return "\n".join(lines)


def _variants(report: Mapping[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """The rows of the same model in the variants of its protocols (calibrated ...), hub-corrected, and both."""
    rows = []
    for label, prefix in (("", ""), ("hub-corrected", f"{CORRECTED}/")):
        values = {k.removeprefix(prefix): v for k, v in report["metrics"].items() if k.startswith(prefix)}
        if prefix and values:
            rows.append((label, values))
        for variant, instead in report["variants"].items():
            if instead and all(name in values for name in instead.values()):
                same = {k: v for k, v in values.items() if k.split("/")[0] not in {m.split("/")[0] for m in instead}}
                changed = {metric: values[name] for metric, name in instead.items()}
                rows.append((f"{label}, {variant}".removeprefix(", "), same | changed))
    return rows


def cell(value: float | None, column: Column) -> str:
    """A number as its column shows it; a dash where it is undefined."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{100 * value:.1f}" if column.unit == "%" else f"{value:.2f}"


def finite(value: Any) -> Any:
    """JSON has no NaN: an undefined number is null."""
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
