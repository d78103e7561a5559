"""How unevenly queries hit a gallery, as a picture: the histogram of N_k with the largest hubs named."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NAMED = 8


def draw(counts: Mapping[str, np.ndarray], k: int, names: Sequence[str], skewness: Mapping[str, float]) -> Any:
    """The matplotlib figure: one histogram of N_k [g] for each search in `counts` (raw, corrected ...), on one scale.

    Bars stand for gallery items by N_k; the number of items is on a logarithmic scale, because hubs are few. Below
    each histogram stand its largest hubs.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6 * len(counts)), layout="constrained")
    panels: Any = np.atleast_1d(figure.subplots(len(counts), 1, sharex=True, sharey=True))
    most = max(int(c.max()) for c in counts.values())
    width = max(1, -(-(most + 1) // 60))
    edges = np.arange(0, most + width + 1, width) - 0.5
    for axes, (label, n) in zip(panels, counts.items(), strict=True):
        axes.hist(n, bins=edges, color="tab:orange", log=True)
        axes.axvline(n.mean(), color="black", linewidth=1)
        skew = f"{skewness[label]:.2f}" if np.isfinite(skewness[label]) else "undefined"
        axes.set_title(f"{label}: N_{k} skewness {skew}, {np.mean(n == 0):.0%} found by nobody", fontsize=10)
        axes.set_ylabel("gallery items")
        axes.text(0.99, 0.95, _hubs(n, names), transform=axes.transAxes, ha="right", va="top", fontsize=8)
    panels[-1].set_xlabel(f"N_{k}: queries that have the item among their {k} nearest (line: mean)")
    return figure


def _hubs(counts: np.ndarray, names: Sequence[str]) -> str:
    return "largest hubs\n" + "\n".join(f"{names[j]}  {counts[j]}" for j in largest(counts))


def largest(counts: np.ndarray, most: int = NAMED) -> list[int]:
    """The items of the greatest N_k, the lower id first among equals."""
    return np.argsort(-counts, kind="stable")[:most].tolist()
