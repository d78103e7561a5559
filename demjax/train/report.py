"""What a run tells: the progress line, metrics.jsonl, TensorBoard, the final table and report.json."""

import contextlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demjax import processes
from demjax.progress import duration
from demjax.train.evaluate import Evaluation
from demjax.train.workdir import naming, write_text

# (metric, heading) of the table for people, in percent.
COLUMNS = (
    ("zsl/top1", "T1"),
    ("gzsl/unseen", "U"),
    ("gzsl/seen", "S"),
    ("gzsl/harmonic", "H"),
    ("gzsl/ausuc", "AUSUC"),
    ("zsl/micro", "T1 micro"),
    ("gzsl/unseen_micro", "U micro"),
    ("gzsl/seen_micro", "S micro"),
)


class Reporter:
    """Writes the run's numbers as they come; one JSON line per epoch, each epoch once. Process 0 writes for all."""

    def __init__(self, workdir: Path, total_epochs: int, chunks: int = 1, *, tensorboard: bool, say=print):
        """`chunks` of an epoch, each with a line of its own, where rows are streamed."""
        self.say, self._total, self._chunks = say, total_epochs, chunks
        self._file = workdir / "metrics.jsonl"
        self._writes = processes.is_first()
        self._board = _summary_writer(workdir) if tensorboard and self._writes else None
        self._told: list[float] = []  # when each line of this session was told

    def rewind(self, number: int) -> None:
        """Drops lines of epochs (chunks) after `number`, and a torn last line: a resumed run writes them again."""
        if not self._writes or not self._file.exists():
            return
        kept = []
        for line in self._file.read_text().splitlines():
            try:
                record = json.loads(line)
                if record.get("chunk", record["epoch"]) <= number:
                    kept.append(line)
            except (ValueError, KeyError):
                continue
        write_text(self._file, "".join(line + "\n" for line in kept))

    def is_evaluated(self, number: int) -> bool:
        """Whether the line of `number` has metrics; in a process that writes nothing, whether that of process 0 has."""
        mine = self._writes and any("zsl/top1" in r for r in self._records() if r.get("chunk", r["epoch"]) == number)
        return any(processes.any_of(mine))

    def amend(self, number: int, values: Mapping[str, float]) -> None:
        """Adds metrics to the line of `number`."""
        if self._writes:
            records = [r | _finite(values) if r.get("chunk", r["epoch"]) == number else r for r in self._records()]
            write_records(self._file.parent, records)

    def _records(self) -> list[dict[str, Any]]:
        return read_records(self._file.parent)

    def epoch(self, number: int, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """One line to metrics.jsonl, TensorBoard and the terminal."""
        if not self._writes:
            return
        epoch, chunk = 1 + (number - 1) // self._chunks, 1 + (number - 1) % self._chunks
        record = {"epoch": epoch, "step": step, "seconds": round(seconds, 4)} | dict(values)
        record |= {"chunk": number} if self._chunks > 1 else {}
        record |= {"time": round(time.time(), 3)}
        with naming(self._file), self._file.open("a") as out:
            out.write(json.dumps(_finite(record)) + "\n")
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        self._told.append(time.monotonic())
        # From line to line, saving and evaluation included. The first epoch compiles: it counts only alone.
        told = self._told
        each = (told[-1] - told[0]) / (len(told) - 1) if len(told) > 1 else seconds
        eta = (self._total * self._chunks - number) * each
        place = f"epoch {epoch:>{len(str(self._total))}}/{self._total}"
        place += f" chunk {chunk:>{len(str(self._chunks))}}/{self._chunks}" * (self._chunks > 1)
        parts = [place, f"loss {values['train/loss']:.5g}"]
        parts += [f"{head} {100 * values[name]:.1f}" for name, head in COLUMNS[:4] if name in values]
        self.say(" | ".join([*parts, duration(seconds), f"eta {duration(eta)}"]))

    def close(self) -> None:
        if self._board:
            self._board.close()


def _summary_writer(workdir: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(workdir / "tensorboard"))


def make_report(
    *,
    config: Mapping[str, Any],
    evaluation: Evaluation,
    seconds: Mapping[str, float],
    provenance: Mapping[str, Any],
    bayes: Mapping[str, float],
    best_on_test: Mapping[str, float] | None,
) -> dict[str, Any]:
    """What report.json holds: fractions, seconds, and where the numbers come from. NaN becomes null."""
    report = {
        "config": config,
        "metrics": dict(evaluation.metrics),
        "seconds": {k: round(v, 3) for k, v in seconds.items()},
        "provenance": provenance,
        "unseen_accuracy": dict(evaluation.unseen_accuracy),
        "n1": dict(evaluation.n1),
        "curve": dict(evaluation.curve),
    }
    if bayes:
        report["bayes"] = dict(bayes)
    if best_on_test:
        report["best_on_test"] = dict(best_on_test)
    return _finite(report)


def write_records(workdir: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """metrics.jsonl anew."""
    write_text(workdir / "metrics.jsonl", "".join(json.dumps(_finite(r)) + "\n" for r in records))


def read_records(workdir: Path, last: int | None = None) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, one per epoch, up to epoch `last`; none where there is no such file yet."""
    file, records = workdir / "metrics.jsonl", []
    for line in file.read_text().splitlines() if file.exists() else ():
        with contextlib.suppress(ValueError):  # a kill can tear the last line; the resumed run writes it again
            records.append(json.loads(line))
    return [r for r in records if last is None or r["epoch"] <= last]


def best_evaluated(workdir: Path, last: int) -> dict[str, float] | None:
    """Best of the evaluations on the way: what much of the literature prints, and nobody may select by.

    T1 is the best T1 of any epoch up to `last`, everything else that of the epoch with the best H. None if there was no
    evaluation on the way (`evaluate.every`).
    """
    evaluated = [r for r in read_records(workdir, last) if "gzsl/harmonic" in r]
    if not evaluated:
        return None
    best = max(evaluated, key=lambda r: r["gzsl/harmonic"])
    metrics = {k: v for k, v in best.items() if k.startswith(("zsl/", "gzsl/", "hubness/"))}
    return metrics | {"zsl/top1": max(r["zsl/top1"] for r in evaluated)}


def table(report: Mapping[str, Any]) -> str:
    """The table for people, in percent; on a planted set the best possible row stands below ours."""
    rows = [("this run", report["metrics"]), *_variants(report["metrics"])]
    if "bayes" in report:
        rows.append(("best possible (Bayes)", report["bayes"]))
    if "best_on_test" in report:
        rows.append(("best on test, not selected", report["best_on_test"]))
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{head:>10}" for _, head in COLUMNS) + f"{'N1 skew':>10}"]
    for name, values in rows:
        cells = [_percent(values.get(metric)) for metric, _ in COLUMNS]
        skew = values.get("hubness/n1_skewness")
        cells.append("-" if skew is None else f"{skew:.2f}")
        lines.append(f"{name:<{width}}" + "".join(f"{c:>10}" for c in cells))
    return "\n".join([*lines, *_hits(report["metrics"]), *_text(report["metrics"]), *_classes(report)])


def _variants(metrics: Mapping[str, float]) -> list[tuple[str, dict[str, float]]]:
    """The rows of the same model with calibration, with hub correction, and with both."""
    rows = []
    for label, prefix in (("", ""), ("hub-corrected", "corrected/")):
        own = {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}
        if prefix and own:
            rows.append((label, own))
        calibrated = {k.replace("gzsl_calibrated/", "gzsl/"): v for k, v in own.items() if "gzsl_calibrated/" in k}
        if calibrated:
            same = {k: v for k, v in own.items() if k.startswith(("zsl/", "hubness/"))}
            rows.append((f"{label}, calibrated".removeprefix(", "), calibrated | same))
    return rows


def _hits(metrics: Mapping[str, float]) -> list[str]:
    """hit@k of unseen images, micro averages, one line for each set of candidates."""
    lines = []
    for protocol, among in (("zsl", "unseen classes"), ("gzsl", "all classes")):
        found = {k: v for k, v in metrics.items() if k.startswith(f"{protocol}/hit@") and k[-1].isdigit()}
        if found:
            told = ", ".join(f"{k.partition('/')[2]} {_percent(v)}" for k, v in found.items())
            lines.append(f"unseen images among {among}: {told}")
    return lines


def _text(metrics: Mapping[str, float]) -> list[str]:
    """Retrieval in both directions, and T1 by the number of captions, one line each."""
    lines = []
    for prefix, label in (
        ("text_to_image/", "class text among images of unseen classes, per class"),
        ("image_to_text/", "images among captions of unseen classes, per class"),
        ("captions/", "T1 with some random captions of each class"),
    ):
        found = {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}
        if found:
            told = ", ".join(f"{k.removesuffix('/top1')}: {_percent(v)}" for k, v in found.items())
            lines.append(f"{label}: {told}")
    return lines


def _classes(report: Mapping[str, Any], most: int = 3) -> list[str]:
    """Which unseen classes are recognised, which are not, and which are hubs."""
    ranked = sorted(report["unseen_accuracy"].items(), key=lambda item: -item[1])
    hubs = sorted(report["n1"].items(), key=lambda item: -item[1])
    mean = sum(report["n1"].values()) / max(1, len(hubs))
    best = ", ".join(f"{readable(n)} {100 * a:.0f}" for n, a in ranked[:most])
    worst = ", ".join(f"{readable(n)} {100 * a:.0f}" for n, a in ranked[-most:])
    nearest = ", ".join(f"{readable(n)} {c}" for n, c in hubs[:most])
    return [
        f"unseen classes recognised best (%): {best}; worst: {worst}",
        f"hubs, by N1 (nearest class of how many unseen images; mean {mean:.0f}): {nearest}",
    ]


def readable(name: str) -> str:
    """A class name of the benchmark files as people write it.

    >>> readable("001.Black_footed_Albatross"), readable("grizzly+bear")
    ('Black footed Albatross', 'grizzly bear')
    """
    head, dot, tail = name.partition(".")
    return (tail if dot and head.isdigit() else name).replace("_", " ").replace("+", " ")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _finite(value: Any) -> Any:
    """JSON has no NaN: an undefined number is null."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
