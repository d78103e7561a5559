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
