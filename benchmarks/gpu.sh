#!/usr/bin/env bash
# Every GPU check and benchmark of demjax in one script. NOT YET RUN ON A GPU: none was at hand when it was written.
#
#   benchmarks/gpu.sh [OUTPUT_FOLDER]
#
# Needs jax with CUDA (pip install "jax[cuda13]"), the rest of requirements-dev.txt, and torch for the peer. About 3 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/gpu}
mkdir -p "$out"
python=${PYTHON:-python}

"$python" -c 'import jax; d = jax.devices("gpu"); print(jax.__version__, d)' | tee "$out/devices.txt"

# The whole road: every config trains, evaluates, saves and is restored.
for config in configs/*.py; do
  for mode in train eval; do
    "$python" -m demjax.main --config="$config:quick" --workdir="$out/$(basename "$config" .py)" --mode=$mode | tail -n 7
  done
done 2>&1 | tee "$out/quick.txt"

# Accuracy must not depend on the device: the planted set on the GPU and on the CPU, same seed, within a point.
for platform in cuda cpu; do
  JAX_PLATFORMS=$platform "$python" -m demjax.main --config=configs/synthetic.py --workdir="$out/planted-$platform" | tail -n 6
done 2>&1 | tee "$out/planted.txt"
"$python" - "$out" <<'PY'
import json, sys
rows = [json.load(open(f"{sys.argv[1]}/planted-{p}/report.json"))["metrics"] for p in ("cuda", "cpu")]
worst = max(abs(rows[0][k] - rows[1][k]) for k in ("zsl/top1", "gzsl/unseen", "gzsl/seen", "gzsl/harmonic"))
print(f"largest difference of an accuracy between GPU and CPU: {100 * worst:.2f} points")
sys.exit(worst > 0.01)
PY

# The step against PyTorch, and what loop unrolling or command buffers would bring.
"$python" benchmarks/dem_step.py --device gpu --rounds 20 --json "$out/dem_step.json" | tee "$out/dem_step.txt"
XLA_FLAGS="--xla_gpu_enable_command_buffer=+WHILE" "$python" benchmarks/dem_step.py --device gpu --rounds 20 \
  --json "$out/dem_step_command_buffer.json" | tee "$out/dem_step_command_buffer.txt"

# Ranks come from two compiled passes: the nearest row must have rank 1 in a gallery of many tiles.
"$python" - <<'PY' | tee "$out/ranks.txt"
import numpy as np
from demjax.search import nearest, ranks
rng = np.random.default_rng(0)
queries, gallery = rng.standard_normal((2000, 64), np.float32), rng.standard_normal((300_000, 64), np.float32)
assert (ranks(queries, gallery, nearest(queries, gallery, 1).ids) == 1).all(), "the two passes of ranks disagree"
print("ranks agree with nearest")
PY

# Populations: vmapped members against single runs, PyTorch eager and torch.func.vmap, and the share of the memory traffic.
"$python" benchmarks/population.py --device gpu --passes 20 --json "$out/population.json" | tee "$out/population.txt"

# Text encoders, training and encoding, against the same modules in PyTorch.
"$python" benchmarks/text_encoders.py --device gpu --json "$out/text_encoders.json" | tee "$out/text_encoders.txt"

# Search: certified results on the GPU equal float64, and the share of the product rate.
"$python" - <<'PY' 2>&1 | tee "$out/search.txt"
import numpy as np
from demjax.search import certificate, nearest
from demjax.search.problem import checked_problem

rng = np.random.default_rng(0)
for score in ("euclidean", "cosine", "dot"):
    for offset in (0, 1000):
        q, g = (offset + rng.standard_normal((n, 512), np.float32) for n in (500, 20_000))
        found = certificate.certified(checked_problem(q, g, score, None, False, k=10), 10)
        x, y = q.astype(np.float64), g.astype(np.float64)
        if score == "cosine":
            x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
        s = x @ y.T if score != "euclidean" else -(((x**2).sum(1)[:, None] + (y**2).sum(1)) - 2 * x @ y.T)
        worst = np.abs(np.sort(s, 1)[:, ::-1][:, :10] - np.take_along_axis(s, found.ids, 1)).max()
        same = (nearest(q, g, 10, score).ids == found.ids).mean()
        print(f"{score}, offset {offset}: worst score difference to float64 {worst:.1e}, ways {found.ways}, highest {same:.5f}")
        assert worst < 1e-6 * max(1, offset**2)
PY
# Streaming from a mapped file, and deterministic kernels: the same run twice gives the same bits.
"$python" benchmarks/feed.py --device gpu --gib 4 --json "$out/feed.json" | tee "$out/feed.txt"
for turn in 1 2; do
  "$python" -m demjax.main --config=configs/synthetic.py:quick --config.deterministic=True --workdir="$out/same-$turn" >/dev/null
done
"$python" - "$out" <<'PY' | tee "$out/deterministic.txt"
import json, sys
one, two = (json.load(open(f"{sys.argv[1]}/same-{i}/report.json"))["metrics"] for i in (1, 2))
assert one == two, "two deterministic runs differ"
print("two deterministic runs agree in every metric")
PY

"$python" benchmarks/knn.py --device gpu --json "$out/knn.json" | tee "$out/knn.txt"
