"""ZSL: test images of unseen classes, each assigned the nearest of the unseen classes.

    T1 = 1/|U| sum_{c in U} (images of c whose nearest unseen class is c) / (images of c)

and the hubness of that search: N_1(c) counts the images that have class c nearest, right or wrong; its skewness over
the unseen classes is 0 where all are nearest equally often.

References: Xian, Lampert, Schiele & Akata 2018, eq. 3, "average per-class top-1 accuracy". Radovanovic, Nanopoulos &
Ivanovic 2010, N_k skewness.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from demjax import hubness, metrics
from demjax.checks import UserError, choose
from demjax.protocols.protocol import Column, Embedder, Options, Protocol, Result

MOST_CLASSES = 60  # drawn by name
NAMED = 3  # classes on a line


def _evaluate(embedder: Embedder, options: Options) -> Result:
    data = embedder.dataset
    ids, _ = embedder.nearest("test_unseen", data.unseen)
    counts = count(embedder, "test_unseen", ids[:, 0])
    n1 = np.asarray(hubness.k_occurrence(jnp.asarray(np.searchsorted(data.unseen, ids)), len(data.unseen)))
    accuracy = np.asarray(counts.correct)[data.unseen] / np.asarray(counts.total)[data.unseen]
    names = [data.classes[c] for c in data.unseen]
    result = {
        "zsl/top1": metrics.per_class_accuracy(counts),
        "zsl/micro": metrics.micro_accuracy(counts),
        "hubness/n1_skewness": hubness.k_skewness(n1),
    }
    return Result(
        result | hits(embedder, options, data.unseen, "zsl/hit"),
        {
            "unseen_accuracy": dict(zip(names, accuracy.tolist(), strict=True)),
            "n1": dict(zip(names, n1.tolist(), strict=True)),
        },
    )


def count(embedder: Embedder, split: str, predicted: np.ndarray) -> metrics.ClassCounts:
    """Right answers and images of each class, for the classes `predicted` [n] of the images of `split`."""
    data = embedder.dataset
    truth = data.labels[data.splits[split]]
    return metrics.class_counts(jnp.asarray(predicted), jnp.asarray(truth), len(data.classes))


def hits(embedder: Embedder, options: Options, candidates: np.ndarray, name: str) -> dict[str, float]:
    """hit@k of the unseen test images among `candidates`: micro and per class; {} where no k is asked for."""
    ks = tuple(options["hits"])
    if not ks or embedder.is_corrected:
        return {}
    data = embedder.dataset
    truth = data.labels[data.splits["test_unseen"]]
    ranks = embedder.ranks("test_unseen", truth[:, None], candidates, ties=options["ties"])
    counts = metrics.hit_counts(ranks, truth, ks, len(data.classes))
    result: dict[str, float] = {}
    for average, suffix in (("micro", ""), ("per_class", "_per_class")):
        values = metrics.hit_at_k(counts, average)
        result |= {f"{name}@{k}{suffix}": float(v) for k, v in zip(ks, values, strict=True)}
    return result


def check(options: Options, task: Any, dataset: Any) -> None:
    """Raises UserError for an unknown tie rule, and for hits beyond the unseen classes."""
    del task
    choose("evaluate.ties", options["ties"], metrics.TIES)
    if ks := tuple(options["hits"]):
        metrics.check_ks(ks)
        if max(ks) > len(dataset.unseen):
            raise UserError(f"evaluate.hits has {max(ks)}: expected at most the {len(dataset.unseen)} unseen classes")


def hit_line(metrics: Mapping[str, Any], protocol: str, among: str) -> list[str]:
    """hit@k of unseen images, micro averages, as a line."""
    values = {k: v for k, v in metrics.items() if k.startswith(f"{protocol}/hit@") and k[-1].isdigit()}
    shown = ", ".join(f"{k.partition('/')[2]} {percent(v)}" for k, v in values.items())
    return [f"unseen images among {among}: {shown}"] if values else []


def _lines(metrics: Mapping[str, Any], details: Mapping[str, Any]) -> list[str]:
    """Which unseen classes are recognised, which are not, and which are hubs."""
    ranked = sorted(details["unseen_accuracy"].items(), key=lambda item: -item[1])
    hubs = sorted(details["n1"].items(), key=lambda item: -item[1])
    mean = sum(details["n1"].values()) / max(1, len(hubs))
    best = ", ".join(f"{readable(n)} {100 * a:.0f}" for n, a in ranked[:NAMED])
    worst = ", ".join(f"{readable(n)} {100 * a:.0f}" for n, a in ranked[-NAMED:])
    nearest = ", ".join(f"{readable(n)} {c}" for n, c in hubs[:NAMED])
    return [
        *hit_line(metrics, "zsl", "unseen classes"),
        f"unseen classes recognised best (%): {best}; worst: {worst}",
        f"hubs, by N1 (nearest class of how many unseen images; mean {mean:.0f}): {nearest}",
    ]


def _draw(figure: Any, metrics: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    """A histogram of N_1, and the accuracy of each unseen class."""
    hubs, classes = figure.subplots(1, 2, width_ratios=(2, 3))
    draw_hubs(hubs, metrics, details, "")
    ranked = sorted(details["unseen_accuracy"].items(), key=lambda item: item[1])
    half = MOST_CLASSES // 2
    shown = ranked if len(ranked) <= MOST_CLASSES else ranked[:half] + ranked[-half:]
    classes.barh(range(len(shown)), [100 * accuracy for _, accuracy in shown], color="tab:green")
    classes.set_yticks(range(len(shown)), [readable(name) for name, _ in shown], fontsize=7)
    classes.margins(y=0.01)
    left_out = f" ({len(ranked) - len(shown)} in between left out)" if len(ranked) > len(shown) else ""
    classes.set(
        xlabel="% recognised among unseen classes" + left_out,
        xlim=(0, 100),
        title=f"unseen classes, mean {percent(metrics['zsl/top1'])} %",
    )


def draw_hubs(axes: Any, metrics: Mapping[str, Any], details: Mapping[str, Any], label: str, bins: Any = None) -> None:
    """A histogram of N_1 over the unseen classes."""
    n1 = np.array(list(details["n1"].values()))
    axes.hist(n1, bins=min(30, 1 + len(set(n1.tolist()))) if bins is None else bins, color="tab:orange")
    axes.axvline(n1.mean(), color="black", linewidth=1)
    skew = metrics.get("hubness/n1_skewness")
    shown = "undefined" if skew is None or np.isnan(skew) else f"{skew:.2f}"
    axes.set(
        xlabel="N1: unseen images that have a class nearest (line: mean)",
        ylabel="classes",
        title=f"{label}N1 skewness {shown}",
    )


def draw_pairs_of_hubs(
    figure: Any, reports: Mapping[str, Sequence[Mapping[str, Any]]], pairs: Sequence[tuple[str, str]]
) -> bool:
    """Histograms of N_1 of the first seed of two rows side by side, for each pair that is there; False for none."""
    there = [pair for pair in pairs if set(pair) <= reports.keys()]
    if not there:
        return False
    figure.set_size_inches(9, 3.4 * len(there))
    grid = figure.subplots(len(there), 2, sharex="row", sharey="row", squeeze=False)
    for axes, pair in zip(grid, there, strict=True):
        first = [reports[name][0] for name in pair]
        most = max(max(r["details"]["zsl"]["n1"].values()) for r in first)
        for one, name, report in zip(axes, pair, first, strict=True):
            draw_hubs(one, report["metrics"], report["details"]["zsl"], f"{name}: ", np.linspace(0, most + 1, 26))
    return True


def readable(name: str) -> str:
    """A class name of the benchmark files as people write it.

    >>> readable("001.Black_footed_Albatross"), readable("grizzly+bear")
    ('Black footed Albatross', 'grizzly bear')
    """
    head, dot, tail = name.partition(".")
    return (tail if dot and head.isdigit() else name).replace("_", " ").replace("+", " ")


def percent(value: float | None) -> str:
    """A fraction in percent with one digit; a dash where it is undefined."""
    return "-" if value is None or np.isnan(value) else f"{100 * value:.1f}"


ZSL = Protocol(
    name="zsl",
    columns=(
        Column("zsl/top1", "T1", progress=True),
        Column("zsl/micro", "T1 micro"),
        Column("hubness/n1_skewness", "N1 skew", ""),
    ),
    evaluate=_evaluate,
    objectives=("zsl/top1", "zsl/micro"),
    options={"hits": (), "ties": "lowest_id"},
    check=check,
    lines=_lines,
    draw=_draw,
)
