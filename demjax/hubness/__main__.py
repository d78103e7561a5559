"""Measure hubness, and what a correction does to it, without training anything."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demjax.checks import UserError, choose
from demjax.hubness import CORRECTIONS, k_occurrence, measures
from demjax.hubness.picture import draw, largest

EXAMPLES = """
examples:
  python -m demjax.hubness --queries images.npy --gallery classes.npy --k 1 --score cosine
  python -m demjax.hubness --queries vectors.npy                     a set against itself; nothing finds itself
  python -m demjax.hubness --queries test.npy --gallery classes.npy --correct csls --bank train.npy

The files hold float32 rows, as numpy.save writes them. They are mapped, not loaded: they may be larger than
memory. All devices of this machine share the search. The result is a table, one line of JSON, and in the folder
--out hubness.json and, where matplotlib is installed, hubness.png.

what is measured, over the gallery items, from N_k, the number of queries that have an item among their k nearest:
  k_skewness            > 0: hubs. Undefined if all N_k are equal
  k_skewness_truncnorm  of the truncated normal with the mean and deviation of N_k
  robinhood             share of the k q slots to be moved until all items have equally many
  gini, atkinson        inequality of N_k, 0 to 1
  antihub_occurrence    share of items that nobody finds
  hub_occurrence        share of the slots that hubs take (N_k at least twice the mean)
  groupie_ratio         share of the slots that the largest hub takes

corrections (--correct):
"""


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    listed = "\n".join(f"  {name:<14} {m.score:<10} {m.equation}" for name, m in CORRECTIONS.items())
    parser = argparse.ArgumentParser(
        prog="python -m demjax.hubness",
        description=__doc__,
        epilog=EXAMPLES + listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--queries", required=True, metavar="Q.npy", help="float32 [q, d]")
    parser.add_argument("--gallery", metavar="G.npy", help="float32 [g, d]; without it the queries search each other")
    parser.add_argument("--k", type=int, default=10, help="neighbours of each query (default 10)")
    parser.add_argument(
        "--score", default=None, help="euclidean, cosine or dot (default euclidean, or the correction's)"
    )
    parser.add_argument("--precision", default="highest", help="highest or certified (equal to float64, proved)")
    parser.add_argument("--correct", metavar="NAME", help="measure also after a correction, listed below")
    parser.add_argument(
        "--bank",
        metavar="B.npy",
        help="reference queries of the correction (seen training images: inductive); "
        "without it the queries themselves, which is transductive",
    )
    parser.add_argument("--correct-k", type=int, help="neighbours the correction looks at (default: as published)")
    parser.add_argument("--alpha", type=float, default=0.75, help="weight of nnn (default 0.75)")
    parser.add_argument("--beta", type=float, default=20.0, help="inverse temperature of isf (default 20)")
    parser.add_argument(
        "--names", metavar="FILE", help="names of the gallery items, one per line, for table and picture"
    )
    parser.add_argument(
        "--out", default="hubness", metavar="FOLDER", help="for hubness.json and .png (default hubness)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Measures, prints and writes; returns what hubness.json holds."""
    given = _arguments(argv)
    from demjax.data import open_npy  # JAX starts here, not for --help

    queries = open_npy(given.queries)
    gallery = open_npy(given.gallery) if given.gallery else queries
    bank = open_npy(given.bank) if given.bank else None
    names = _names(given.names, len(gallery))
    score = _score(given)
    if not 1 <= given.k < len(gallery):
        raise UserError(f"--k {given.k} of {len(gallery)} gallery items: expected 1 <= k < {len(gallery)}")
    if given.bank and not given.correct:
        raise UserError("--bank without --correct: name the correction it is for")
    counts = {"raw": _count(queries, gallery, given, score, None, correct=False)}
    if given.correct:
        counts[_label(given)] = _count(queries, gallery, given, score, bank, correct=True)
    found = {label: measures(n, given.k, len(queries)) for label, n in counts.items()}
    report = {
        "queries": {"file": given.queries, "rows": len(queries)},
        "gallery": {"file": given.gallery or given.queries, "rows": len(gallery)},
        "k": given.k,
        "score": score,
        "precision": given.precision,
        "measures": {label: {name: _finite(v) for name, v in m.items()} for label, m in found.items()},
        "hubs": {label: [[names[j], int(n[j])] for j in largest(n)] for label, n in counts.items()},
    }
    print(_table(found, report["hubs"], given.k))
    print(json.dumps(report))
    figure = _draw(counts, given.k, names, {label: m["k_skewness"] for label, m in found.items()})
    _write(Path(given.out).expanduser(), report, figure)
    return report


def _score(given: argparse.Namespace) -> str:
    if not given.correct:
        return given.score or "euclidean"
    needed = choose("--correct", given.correct, CORRECTIONS).score
    if given.score not in (None, needed):
        raise UserError(f"--score {given.score} with --correct {given.correct}: expected --score {needed}")
    return needed


def _label(given: argparse.Namespace) -> str:
    return f"{given.correct} ({'on the bank' if given.bank else 'transductive'})"


def _count(queries: Any, gallery: Any, given: argparse.Namespace, score: str, bank: Any, correct: bool) -> np.ndarray:
    """N_k of the search, corrected or not."""
    from demjax import reduction
    from demjax.mesh import data_mesh
    from demjax.search import nearest

    mesh, square = data_mesh(), given.gallery is None
    correction = None
    if correct:
        correction = reduction.fit(
            given.correct,
            queries,
            gallery,
            bank,
            k=given.correct_k,
            alpha=given.alpha,
            beta=given.beta,
            mesh=mesh,
            exclude_self=square,
            progress=True,
        )
    precision = given.precision if correction is None else "highest"
    found = nearest(
        queries,
        gallery,
        given.k,
        score,
        mesh,
        precision,
        exclude_self=square,
        correction=correction,
        progress=True,
    )
    return np.asarray(k_occurrence(found.ids, len(gallery)))


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


def _table(found: dict[str, dict[str, float]], hubs: dict[str, list], k: int) -> str:
    width = max(18, *(len(label) + 2 for label in found))
    lines = [f"{f'N_{k}':<22}" + "".join(f"{label:>{width}}" for label in found)]
    for name in next(iter(found.values())):
        cells = (m[name] for m in found.values())
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
    print(f"written: {folder}/hubness.json" + (" and hubness.png" if figure is not None else ""), file=sys.stderr)


def run() -> None:
    """The command line: a mistake is one line, exit status 1."""
    try:
        main(sys.argv[1:])
    except UserError as mistake:
        print(f"demjax.hubness: error: {mistake}", file=sys.stderr)
        sys.exit(1)
    except OSError as failure:
        print(f"demjax.hubness: error: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
