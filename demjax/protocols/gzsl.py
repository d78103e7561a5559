"""Generalised ZSL: test images of seen and of unseen classes, each among all classes.

    U, S = per-class accuracies of unseen and of seen images        H = 2 U S / (U + S)

Calibrated stacking takes a penalty off the scores of seen classes; the curve of U against S over all penalties has the
area AUSUC. A penalty may be chosen on a validation view only; it is measured in deviations of the scores, so that it
carries over to a model of another scale.

References: Xian, Lampert, Schiele & Akata 2018, eq. 4 (H). Chao, Changpinyo, Gong & Sha 2016, eqs. 2 and 3, AUSUC.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from demjax import metrics
from demjax.protocols.protocol import Column, Embedder, Options, Protocol, Result
from demjax.protocols.zsl import check, count, hit_line, hits

CURVE_POINTS = 101
CALIBRATED = {f"gzsl/{name}": f"gzsl_calibrated/{name}" for name in ("unseen", "seen", "harmonic")}


def _evaluate(embedder: Embedder, options: Options) -> Result:
    data = embedder.dataset
    sides = {split: _side(embedder, split) for split in ("test_unseen", "test_seen")}
    unseen, seen = (count(embedder, split, predicted) for split, (predicted, _) in sides.items())
    u, s = metrics.per_class_accuracy(unseen), metrics.per_class_accuracy(seen)
    curve = metrics.seen_unseen_curve(metrics.join_gaps([gaps for _, gaps in sides.values()]))
    result = {
        "gzsl/unseen": u,
        "gzsl/seen": s,
        "gzsl/harmonic": metrics.harmonic_mean(u, s),
        "gzsl/unseen_micro": metrics.micro_accuracy(unseen),
        "gzsl/seen_micro": metrics.micro_accuracy(seen),
        "gzsl/ausuc": metrics.ausuc(curve),
    }
    result |= hits(embedder, options, np.arange(len(data.classes)), "gzsl/hit")
    if data.is_validation_view:  # here, and only here, the best penalty may be looked for
        best = metrics.best_harmonic(curve)
        result |= {"gzsl/best_harmonic": best.harmonic, "gzsl/best_penalty": best.gamma / embedder.deviation()}
    if (penalty := options.get("penalty")) is not None:
        point = metrics.at_gamma(curve, penalty * embedder.deviation())
        result |= {
            "gzsl_calibrated/unseen": point.unseen,
            "gzsl_calibrated/seen": point.seen,
            "gzsl_calibrated/harmonic": point.harmonic,
            "gzsl_calibrated/penalty": penalty,
        }
    shown = np.unique(np.linspace(0, len(curve.gamma) - 1, CURVE_POINTS).astype(int))
    points = {"unseen": curve.unseen[shown].tolist(), "seen": curve.seen[shown].tolist()}
    return Result(result, {"curve": points})


def _side(embedder: Embedder, split: str) -> tuple[np.ndarray, metrics.Gaps]:
    """Answers among all classes, and the gaps between the best seen and the best unseen class of each image."""
    data = embedder.dataset
    truth = data.labels[data.splits[split]]
    (seen, best_seen), (unseen, best_unseen) = (
        (ids[:, 0], scores[:, 0])
        for ids, scores in (embedder.nearest(split, part) for part in (data.seen, data.unseen))
    )
    tied = best_seen == best_unseen
    predicted = np.where(best_seen > best_unseen, seen, np.where(tied, np.minimum(seen, unseen), unseen))
    is_seen = np.full(len(truth), split == "test_seen")
    return predicted, metrics.gaps(best_seen, seen == truth, best_unseen, unseen == truth, truth, is_seen)


def _lines(metrics: Mapping[str, Any], details: Mapping[str, Any]) -> list[str]:
    del details
    return hit_line(metrics, "gzsl", "all classes")


def _draw(figure: Any, metrics: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    axes = figure.subplots()
    draw_curve(axes, metrics, details, f"AUSUC {100 * metrics['gzsl/ausuc']:.1f}")
    _label(axes)
    axes.legend(fontsize=8)


def _label(axes: Any) -> None:
    axes.set(xlabel="accuracy on unseen classes", ylabel="accuracy on seen classes", xlim=(0, None), ylim=(0, None))
    axes.set_title("Seen against unseen for every penalty (dot: none, star: from validation)", fontsize=10)


def draw_curve(axes: Any, metrics: Mapping[str, Any], details: Mapping[str, Any], label: str) -> None:
    """The seen-unseen curve of a run, the point without a penalty, and the calibrated one."""
    (line,) = axes.plot(details["curve"]["unseen"], details["curve"]["seen"], label=label)
    axes.plot(metrics["gzsl/unseen"], metrics["gzsl/seen"], "o", color=line.get_color())
    if "gzsl_calibrated/unseen" in metrics:
        at = metrics["gzsl_calibrated/unseen"], metrics["gzsl_calibrated/seen"]
        axes.plot(*at, "*", markersize=12, color=line.get_color())


def draw_curves(figure: Any, reports: Mapping[str, Sequence[Mapping[str, Any]]], most: int = 10) -> bool:
    """The curves of the first seed of the `most` rows with the largest area; False where no row has a curve.

    `reports` are those of the seeds of each row, as report.json holds them.
    """
    areas = {name: [r["metrics"].get("gzsl/ausuc") for r in rows] for name, rows in reports.items()}
    known = {name: float(np.mean(a)) for name, a in areas.items() if all(x is not None for x in a)}
    if not known:
        return False
    figure.set_size_inches(8, 7)
    axes = figure.subplots()
    for name in sorted(known, key=lambda name: -known[name])[:most]:
        first = reports[name][0]
        draw_curve(axes, first["metrics"], first["details"]["gzsl"], f"{name}  {100 * known[name]:.1f}")
    _label(axes)
    axes.legend(title="AUSUC", fontsize=8)
    return True


GZSL = Protocol(
    name="gzsl",
    columns=(
        Column("gzsl/unseen", "U", progress=True),
        Column("gzsl/seen", "S", progress=True),
        Column("gzsl/harmonic", "H", progress=True),
        Column("gzsl/ausuc", "AUSUC"),
        Column("gzsl/unseen_micro", "U micro"),
        Column("gzsl/seen_micro", "S micro"),
    ),
    evaluate=_evaluate,
    objectives=(
        *("gzsl/harmonic", "gzsl/unseen", "gzsl/seen", "gzsl/ausuc", "gzsl/unseen_micro", "gzsl/seen_micro"),
        "gzsl/best_harmonic",
    ),
    options={"hits": (), "ties": "lowest_id"},
    check=check,
    tuned={"penalty": "gzsl/best_penalty"},
    variants={"calibrated": CALIBRATED},
    lines=_lines,
    draw=_draw,
)
