"""Measure hubness, and what a correction does to it, without training anything."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demjax.checks import UserError, choose, in_range
from demjax.cli import hubness_arguments as arguments
from demjax.cli.exit import exit_status
from demjax.hubness import CORRECTIONS, fit, k_occurrence, measures
from demjax.hubness.picture import draw, largest


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Measures, prints and writes; returns what hubness.json holds."""
    from demjax import distributed
    from demjax.data import open_npy

    args = arguments.read(argv, distributed.add_flags)

    if joined := distributed.join_flags(args):
        print(joined, file=sys.stderr, flush=True)
    queries = open_npy(args.queries)
    gallery = open_npy(args.gallery) if args.gallery else queries
    bank = open_npy(args.bank) if args.bank else None
    with distributed.raise_in_all():
        names = _names(args.names, len(gallery))
        score = _score(args)
        _check(args, gallery, bank)
    counts = {"raw": _count(queries, gallery, args, score, None, correct=False)}
    if args.correct:
        counts[arguments.label_of(args)] = _count(queries, gallery, args, score, bank, correct=True)
    measured = {label: measures(n, args.k, len(queries)) for label, n in counts.items()}
    report = {
        "queries": {"file": args.queries, "rows": len(queries)},
        "gallery": {"file": args.gallery or args.queries, "rows": len(gallery)},
        "k": args.k,
        "score": score,
        "precision": {label: arguments.precision_of(args, label != "raw") for label in counts},
        "measures": {label: {name: _finite(v) for name, v in m.items()} for label, m in measured.items()},
        "hubs": {label: [[names[j], int(n[j])] for j in largest(n)] for label, n in counts.items()},
    }
    with distributed.raise_in_all():
        if distributed.is_first():
            print(_table(measured, report["hubs"], args.k))
            print(json.dumps(report))
            figure = _draw(counts, args.k, names, {label: m["k_skewness"] for label, m in measured.items()})
            _write(Path(args.out).expanduser(), report, figure)
    return report


def _check(args: argparse.Namespace, gallery: Any, bank: Any) -> None:
    """Mistakes that would show only after the first search."""
    from demjax.hubness.fit import check_bank
    from demjax.search import PRECISIONS

    choose("--precision", args.precision, PRECISIONS)
    if not 1 <= args.k < len(gallery):
        raise UserError(f"--k {args.k} of {len(gallery)} gallery items: expected 1 <= k < {len(gallery)}")
    if args.bank and not args.correct:
        raise UserError("--bank without --correct: name the correction it is for")
    if bank is not None:
        check_bank(bank, gallery)
    in_range("--correct-k", 1 if args.correct_k is None else args.correct_k, 1)
    in_range("--alpha", args.alpha, 0)
    in_range("--beta", args.beta, 0, open_low=True)
    folder = Path(args.out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {args.out} is a file: expected a folder")
    if (folder / "hubness.json").exists() and not args.overwrite:
        raise UserError(f"{folder}/hubness.json is there already: choose another --out, or add --overwrite")


def _score(args: argparse.Namespace) -> str:
    """The score asked for, or the one that the correction needs."""
    from demjax.search import SCORES

    if args.score is not None:
        choose("--score", args.score, dict.fromkeys(SCORES))
    if not args.correct:
        return "euclidean" if args.score is None else args.score
    fitting = choose("--correct", args.correct, CORRECTIONS).scores
    score = fitting[0] if args.score is None else args.score
    if score not in fitting:
        expected = " or ".join(fitting)
        raise UserError(f"--score {score} with --correct {args.correct}: expected --score {expected}")
    return score


def _count(queries: Any, gallery: Any, args: argparse.Namespace, score: str, bank: Any, correct: bool) -> np.ndarray:
    """N_k of the search, corrected or not."""
    from demjax import distributed
    from demjax.mesh import data_mesh
    from demjax.search import nearest

    mesh, square, first = data_mesh(), args.gallery is None, distributed.is_first()
    correction = None
    if correct:
        correction = fit(
            args.correct,
            queries,
            gallery,
            bank,
            score=score,
            k=args.correct_k,
            alpha=args.alpha,
            beta=args.beta,
            mesh=mesh,
            exclude_self=square,
            progress=first,
        )
    neighbours = nearest(
        queries,
        gallery,
        args.k,
        score,
        mesh,
        arguments.precision_of(args, correct),
        exclude_self=square,
        correction=correction,
        progress=first,
    )
    return np.asarray(k_occurrence(neighbours.ids, len(gallery)))


def _names(file: str | None, n: int) -> list[str]:
    if file is None:
        return [f"row {j}" for j in range(n)]
    try:
        names = Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--names {file}: {error}") from None
    if len(names) != n:
        raise UserError(f"--names {file}: {len(names)} lines for {n} gallery items: expected one name per line")
    return names


def _finite(value: float) -> float | None:
    """JSON has no NaN: an undefined measure is null."""
    return value if np.isfinite(value) else None


def _table(measured: dict[str, dict[str, float]], hubs: dict[str, list], k: int) -> str:
    width = max(18, *(len(label) + 2 for label in measured))
    lines = [f"{f'N_{k}':<22}" + "".join(f"{label:>{width}}" for label in measured)]
    for name in next(iter(measured.values())):
        cells = (m[name] for m in measured.values())
        lines.append(f"{name:<22}" + "".join(f"{'undefined' if np.isnan(v) else f'{v:.4f}':>{width}}" for v in cells))
    for label, largest_hubs in hubs.items():
        lines.append(f"hubs, {label}: " + ", ".join(f"{name} {n}" for name, n in largest_hubs))
    return "\n".join(lines)


def _draw(counts: dict[str, np.ndarray], k: int, names: Sequence[str], skewness: dict[str, float]) -> Any | None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError:
        return None
    figure = draw(counts, k, names, skewness)
    FigureCanvasAgg(figure)
    return figure


def _write(folder: Path, report: dict[str, Any], figure: Any | None) -> None:
    """Both files, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "hubness.json.part"
    part.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(part, folder / "hubness.json")
    if figure is not None:
        part = folder / "hubness.part.png"
        figure.savefig(part, dpi=110)
        os.replace(part, folder / "hubness.png")
    else:
        (folder / "hubness.png").unlink(missing_ok=True)  # of an earlier run, with --overwrite
    picture = " and hubness.png" if figure is not None else "; a picture needs matplotlib (pip install matplotlib)"
    print(f"written: {folder}/hubness.json{picture}", file=sys.stderr)


def run() -> None:
    """The command line: exit status 0, or 1 and one line for a mistake."""

    def call() -> None:
        main(sys.argv[1:])

    sys.exit(exit_status(call, resumes=False))
