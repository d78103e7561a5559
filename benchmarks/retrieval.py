"""Image-text retrieval: Recall@K in both directions by counting, against the usual loop of one argsort per query.

    python benchmarks/retrieval.py           5,000 images x 25,000 captions, d 1024; about three minutes

The loop is how evaluation goes in the retrieval literature: for each query one product with the whole gallery, a full
argsort, and the place of the right answers in it (the best of five captions; the one image). `torch argsort` does the
same for blocks of queries. All must give the same ranks. The ratio stands last.
"""

import importlib
from typing import Any

import measure
import numpy as np

CAPTIONS = 5


def pairs(n_images: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of images and captions that belong together more or less."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((n_images, d), np.float32)
    captions = np.repeat(images, CAPTIONS, axis=0) + 8 * rng.standard_normal((CAPTIONS * n_images, d), np.float32)
    return tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, captions))


def loop(queries: np.ndarray, gallery: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Rank, from 1, of the best positive of each query."""
    ranks = np.empty(len(queries), int)
    for i, query in enumerate(queries):
        order = np.argsort(-(gallery @ query), kind="stable")
        place = np.empty(len(order), int)
        place[order] = np.arange(len(order))
        ranks[i] = place[positives[i]].min() + 1
    return ranks


def torch_argsort(queries: np.ndarray, gallery: np.ndarray, positives: np.ndarray) -> np.ndarray:
    import torch

    out, g = [], torch.from_numpy(gallery)
    for start in range(0, len(queries), 512):
        order = torch.argsort(torch.from_numpy(queries[start : start + 512]) @ g.T, dim=1, descending=True)
        place = torch.empty_like(order)
        place.scatter_(1, order, torch.arange(order.shape[1]).expand_as(order).contiguous())
        own = torch.from_numpy(positives[start : start + 512])
        out.append(place.gather(1, own).min(1).values + 1)
    return torch.cat(out).numpy()


def main(given: Any) -> None:
    import jax

    from demjax.search import ranks

    torch = importlib.import_module("torch") if measure.has("torch") else None
    print(measure.machine(jax, np, torch))
    images, captions = pairs(given.images, given.d)
    to_text = np.arange(len(captions)).reshape(-1, CAPTIONS)
    to_image = np.repeat(np.arange(len(images)), CAPTIONS)[:, None]
    directions = ((images, captions, to_text), (captions, images, to_image))
    contestants = {
        "demjax ranks": lambda: [ranks(q, g, p, "dot") for q, g, p in directions],
        "torch argsort, 512 queries at a time": lambda: [torch_argsort(*x) for x in directions],
        "loop of argsort": lambda: [loop(*x) for x in directions],
    }
    if not torch:
        del contestants["torch argsort, 512 queries at a time"]
    found = {name: call() for name, call in contestants.items()}
    for name, both in found.items():
        same = [float(np.mean(a == b)) for a, b in zip(both, found["loop of argsort"], strict=True)]
        recalls = " / ".join(f"{100 * np.mean(r <= k):.2f}" for r in both for k in (1, 5, 10))
        print(f"  {name:<44}R@1, 5, 10 i2t and t2i {recalls}; ranks as the loop's {same[0]:.4%} {same[1]:.4%}")
    seconds = measure.timed(contestants, given.rounds)
    print(f"{len(images):,} images x {len(captions):,} captions, d {given.d}, both directions")
    measure.table(seconds, "demjax ranks")
    measure.write(given.json, seconds)


if __name__ == "__main__":
    main(measure.options(__doc__, images=5000, d=1024))
