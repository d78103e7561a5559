"""Multi-label mAP and F1@3/5 together, against scikit-learn, in one run on the same arrays.

    python benchmarks/multilabel.py                              100,000 x 1,006, about two minutes
    python benchmarks/multilabel.py --images 20000 --labels 200  a look

Standard normal float32 scores, labels of -1 / 0 / 1 with 1 % positives, as many images and labels as NUS-WIDE's
generalised test. Every entry is ranked (0 counts as negative), ties are scikit-learn's. demjax: `average_precision`,
`ap_counts` and `topk_counts` on all labels. scikit-learn: `average_precision_score` a label, and
`precision_recall_fscore_support(average="micro")` on the indicators of a top-K taken with `np.argpartition`. Its AP is
measured on a part of the labels and scaled up (its time is the same for each), its F1 on a part of the images. The
values must agree to 1e-6 before anything is timed. Rounds are interleaved; medians; the ratio stands last.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

KS, DENSITY, AIM = (3, 5), 0.01, 10.0


def make(n: int, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels, in blocks: no array larger than the scores is ever held."""
    rng = np.random.default_rng(0)
    scores, labels = np.empty((n, c), np.float32), np.empty((n, c), np.int8)
    for first in range(0, n, 4096):
        rows = slice(first, min(first + 4096, n))
        shape = scores[rows].shape
        scores[rows] = rng.standard_normal(shape, np.float32)
        drawn = rng.random(shape, np.float32)
        labels[rows] = np.where(drawn < DENSITY, 1, np.where(drawn < 0.3, -1, 0))
    return scores, labels


class Demjax:
    """All labels, all images."""

    def __init__(self, name: str, scores: np.ndarray, labels: np.ndarray, workers: int | None = None):
        from demjax import metrics

        self.name, self._workers = name, workers
        self._metrics, self._scores, self._labels = metrics, scores, labels

    def ap(self) -> np.ndarray:
        """AP of every label, and the counts a mean needs."""
        found = self._metrics.average_precision(self._scores, self._labels, "all", workers=self._workers)
        self._metrics.ap_counts(found, self._labels)
        return found

    def f1(self, images: int | None = None) -> np.ndarray:
        """Precision, recall, F1 [3, K]."""
        counts = self._metrics.topk_counts(self._scores[:images], self._labels[:images], KS, None, self._workers)
        return np.stack(self._metrics.f1_at_k(counts))

    def seconds(self) -> tuple[float, float]:
        """Of AP and of F1."""
        return timed(self.ap), timed(self.f1)


class ScikitLearn:
    """A part of the labels for AP, a part of the images for F1; times are scaled to the whole."""

    name = "scikit-learn, scaled up"

    def __init__(self, scores: np.ndarray, labels: np.ndarray, part: int):
        n, c = scores.shape
        self._scores, self._labels = scores, labels
        self.columns = np.linspace(0, c - 1, min(part, c)).astype(int)
        self.images = min(n, 20_000)

    def ap(self) -> np.ndarray:
        """AP of the measured labels."""
        from sklearn.metrics import average_precision_score

        pairs = ((self._labels[:, j] == 1, self._scores[:, j]) for j in self.columns)
        return np.array([average_precision_score(truth, score) for truth, score in pairs])

    def f1(self) -> np.ndarray:
        """Precision, recall, F1 [3, K] of the measured images."""
        from sklearn.metrics import precision_recall_fscore_support

        scores, truth, found = self._scores[: self.images], self._labels[: self.images] == 1, []
        for k in KS:
            chosen = np.zeros(scores.shape, bool)
            np.put_along_axis(chosen, np.argpartition(-scores, k - 1, axis=1)[:, :k], True, axis=1)
            found.append(precision_recall_fscore_support(truth, chosen, average="micro")[:3])
        return np.array(found).T

    def seconds(self) -> tuple[float, float]:
        """Of AP and of F1, for all labels and images."""
        n, c = self._scores.shape
        return timed(self.ap) * c / len(self.columns), timed(self.f1) * n / self.images


def timed(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def check_agreement(ours: Demjax, peer: ScikitLearn) -> float:
    """The greatest difference of AP, P, R, F1 on what both computed; nothing is timed above 1e-6."""
    difference = np.abs(ours.ap()[peer.columns] - peer.ap()).max()
    difference = max(difference, np.abs(ours.f1(peer.images) - peer.f1()).max())
    if not difference <= 1e-6:
        sys.exit(f"demjax and scikit-learn compute different things: they differ by {difference:.1e}")
    return float(difference)


def measure(these: list[Any], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of (AP, F1), `rounds` values each, in turn A B A B ..."""
    found: dict[str, list[tuple[float, float]]] = {c.name: [] for c in these}
    for _ in range(rounds):
        for contestant in these:
            found[contestant.name].append(contestant.seconds())
    return found


def machine() -> str:
    import sklearn

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = models[0].partition(":")[2].strip() if models else model
    return (
        f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}; Python {platform.python_version()}, "
        f"numpy {np.__version__}, scikit-learn {sklearn.__version__}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=1006)
    parser.add_argument("--part", type=int, default=50, help="labels on which scikit-learn is measured (default 50)")
    parser.add_argument("--rounds", type=int, default=5, help="timings of each (default 5)")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    args = parser.parse_args()
    for name, least in (("images", 1000), ("labels", max(KS)), ("part", 1), ("rounds", 1)):
        if getattr(args, name) < least:
            parser.error(f"--{name} is {getattr(args, name)}: expected {least} or more")

    print(machine())
    scores, labels = make(args.images, args.labels)
    print(f"scores {args.images} x {args.labels} float32, {(labels == 1).mean():.2%} positive; mAP + F1@3 + F1@5")
    ours, peer = Demjax("demjax", scores, labels), ScikitLearn(scores, labels, args.part)
    one_thread = Demjax("demjax, one thread", scores, labels, workers=1)
    print(
        f"scikit-learn: AP measured on {len(peer.columns)} of the labels, F1 on {peer.images} of the images; scaled up"
    )
    difference = check_agreement(ours, peer)
    found = measure([ours, one_thread, peer], args.rounds)

    print(f"\n{'':26} {'AP s':>8} {'F1 s':>8} {'together s':>11} {'(min - max)':>17}")
    middle, middle_ap = {}, {}
    for name, values in found.items():
        ap, f1 = (statistics.median(v) for v in zip(*values, strict=True))
        middle_ap[name] = ap
        together = [sum(v) for v in values]
        middle[name] = statistics.median(together)
        span = f"({min(together):.2f} - {max(together):.2f})"
        print(f"{name:26} {ap:8.2f} {f1:8.2f} {middle[name]:11.2f} {span:>17}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    ratio, ratio_one = (middle[peer.name] / middle[c.name] for c in (ours, one_thread))
    ratio_ap = middle_ap[peer.name] / middle_ap[ours.name]
    if args.json:
        figures = {
            "seconds": found,
            "ratio": ratio,
            "ratio_ap": ratio_ap,
            "ratio_one_thread": ratio_one,
            "difference": difference,
            "machine": machine(),
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"\ngreatest difference of AP, P, R, F1: {difference:.1e}; peak memory {peak:.1f} GB")
    print(f"mAP alone {ratio_ap:.1f} x; together on one thread, as scikit-learn runs, {ratio_one:.1f} x")
    print(f"demjax is {ratio:.1f} x as fast as scikit-learn (aim {AIM:.0f})")


if __name__ == "__main__":
    main()
