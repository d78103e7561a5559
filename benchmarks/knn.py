"""Exact nearest neighbours against faiss-cpu, scikit-learn, PyTorch and plain jax.numpy, in one run.

    python benchmarks/knn.py                 CPU: 5,000 x 50,000, d 1024 and 2048, k 1, 10, 100; about six minutes
    python benchmarks/knn.py --device gpu    16k x 262k and 100k x 1M, d 2048, as a share of the product rate, and torch

All get the same float32 arrays of standard normal numbers and return the k nearest by Euclidean distance. Peers have
built their index before the clock starts; demjax has none and does everything within it, from NumPy arrays. How many
of the ids equal those of float64 brute force is counted on 100 queries. The ratio, peer over ours, comes last.
"""

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import measure
import numpy as np

K, WIDTHS = (1, 10, 100), (1024, 2048)


def truth(queries: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
    """Ids by float64 brute force."""
    x, y = queries.astype(np.float64), gallery.astype(np.float64)
    squared = (y * y).sum(1)[None] - 2 * (x @ y.T)
    near = np.argpartition(squared, k, axis=1)[:, : k + 1]
    exact = np.array([((y[ids] - q) ** 2).sum(1) for q, ids in zip(x, near, strict=True)])
    return np.take_along_axis(near, np.argsort(exact, axis=1), axis=1)[:, :k]


def on_cpu(queries: np.ndarray, gallery: np.ndarray, k: int) -> dict[str, Callable[[], Any]]:
    """Every contestant as a call that returns ids."""
    import faiss
    import jax
    import jax.numpy as jnp
    from sklearn.neighbors import NearestNeighbors

    from demjax.search import nearest

    flat = faiss.IndexFlatL2(queries.shape[1])
    flat.add(gallery)
    brute = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(gallery)
    jq, jg = jnp.asarray(queries), jnp.asarray(gallery)

    @jax.jit
    def plain(q: jax.Array, g: jax.Array) -> jax.Array:
        scores = jnp.matmul(q, g.T, precision="highest") - (g * g).sum(1)[None] / 2
        return jax.lax.top_k(scores, k)[1]

    return {
        "demjax certified": lambda: nearest(queries, gallery, k, precision="certified").ids,
        "demjax highest": lambda: nearest(queries, gallery, k).ids,
        "faiss IndexFlatL2": lambda: flat.search(queries, k)[1],
        **(by_torch(queries, gallery, k) if importlib.util.find_spec("torch") else {}),
        "jax.numpy matmul + lax.top_k": lambda: np.asarray(plain(jq, jg)),
        "scikit-learn brute": lambda: brute.kneighbors(queries, return_distance=False),
    }


def by_torch(queries: np.ndarray, gallery: np.ndarray, k: int) -> dict[str, Callable[[], Any]]:
    import torch

    q, g = torch.from_numpy(queries), torch.from_numpy(gallery)
    half = (g * g).sum(1) / 2
    return {"torch matmul + topk": lambda: torch.topk(q @ g.T - half, k).indices.numpy()}


def cpu(given: Any) -> dict[str, Any]:
    import faiss
    import jax
    import sklearn

    torch = importlib.import_module("torch") if measure.has("torch") else None
    if torch:
        torch.set_num_threads(measure.os.cpu_count() or 1)
    print(measure.machine(jax, faiss, sklearn, torch))
    result = {}
    for d in WIDTHS:
        rng = np.random.default_rng(d)
        queries = rng.standard_normal((given.queries, d), np.float32)
        gallery = rng.standard_normal((given.gallery, d), np.float32)
        for k in K:
            contestants = on_cpu(queries, gallery, k)
            expected = truth(queries[:100], gallery, k)
            right = {name: float((call()[:100] == expected).mean()) for name, call in contestants.items()}
            seconds = measure.timed(contestants, given.rounds)
            print(f"{given.queries:,} x {given.gallery:,}, d {d}, k {k}", flush=True)
            measure.table(seconds, "demjax certified", {n: f"ids right {r:.4%}" for n, r in right.items()})
            median = {name: measure.statistics.median(s) for name, s in seconds.items()}
            rivals = {n: s for n, s in median.items() if not n.startswith(("demjax", "scikit"))}
            best = min(rivals, key=rivals.__getitem__)
            for name in ("demjax certified", "demjax highest"):
                sk, other = median["scikit-learn brute"] / median[name], rivals[best] / median[name]
                print(f"  {name}: {sk:.2f} x scikit-learn (aim 3), {other:.2f} x {best} (aim 1.5)", flush=True)
            result[f"d{d} k{k}"] = seconds
    return result


def gpu(given: Any) -> dict[str, Any]:
    """NOT YET RUN: no GPU was at hand when this was written."""
    import jax
    import jax.numpy as jnp
    import torch

    from demjax.search import nearest

    if jax.default_backend() != "gpu" or not torch.cuda.is_available():
        sys.exit("jax and torch must both see a GPU")
    print(measure.machine(jax, torch), jax.devices()[0].device_kind)
    result = {}
    for n_q, n_g in ((16_384, 262_144), (100_000, 1_000_000)):
        d = 2048
        keys = jax.random.split(jax.random.key(0))
        queries, gallery = jax.random.normal(keys[0], (n_q, d)), jax.random.normal(keys[1], (n_g, d))
        flop = 2 * n_q * n_g * d
        rate = product_rate(jnp.float16)
        tq, tg = (torch.from_dlpack(x) for x in (queries, gallery))

        def torch_search(dtype: Any, tq: Any = tq, tg: Any = tg) -> None:
            q, g = tq.to(dtype), tg.to(dtype)
            half = (tg * tg).sum(1) / 2
            for block in q.split(2048):
                torch.topk((block @ g.T).float() - half, 10)
            torch.cuda.synchronize()

        contestants = {
            "demjax certified": lambda q=queries, g=gallery: jax.block_until_ready(
                nearest(q, g, 10, precision="certified").ids
            ),
            "demjax highest": lambda q=queries, g=gallery: jax.block_until_ready(nearest(q, g, 10).ids),
            "torch float32": lambda: torch_search(torch.float32),
            "torch bfloat16 (inexact)": lambda: torch_search(torch.bfloat16),
        }
        seconds = measure.timed(contestants, given.rounds)
        print(f"{n_q:,} x {n_g:,}, d {d}, k 10")
        measure.table(seconds, "demjax certified")
        share = flop / measure.statistics.median(seconds["demjax certified"]) / rate
        print(f"  certified: {share:.2f} of the float16 product rate {rate / 1e12:.0f} TFLOP/s (aim 0.6)")
        result[f"{n_q} x {n_g}"] = seconds | {"share": share}
    return result


def product_rate(dtype: Any) -> float:
    """FLOP/s of a plain 8192-cubed product."""
    import time

    import jax
    import jax.numpy as jnp

    n = 8192
    x = jax.random.normal(jax.random.key(0), (n, n)).astype(dtype)
    multiply = jax.jit(lambda a: jnp.matmul(a, a, preferred_element_type=jnp.float32))
    jax.block_until_ready(multiply(x))
    begun = time.perf_counter()
    for _ in range(20):
        out = multiply(x)
    jax.block_until_ready(out)
    return 20 * 2 * n**3 / (time.perf_counter() - begun)


if __name__ == "__main__":
    flags = measure.options(__doc__, device="cpu", queries=5000, gallery=50_000)
    measure.write(flags.json, gpu(flags) if flags.device == "gpu" else cpu(flags))
