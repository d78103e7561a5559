#!/usr/bin/env bash
# Several seeds of one config, one after the other, then mean and std over them.
#
#   launch/seeds.sh 3 runs/cub --config=configs/cub.py --config.data.dir=FOLDER
#   launch/seeds.sh --dry-run 3 runs/cub --config=configs/cub.py
#
# Seed s goes to runs/cub-s. Stopped half way? The same command resumes: finished seeds are only evaluated.
set -euo pipefail

say_usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; }

run=()
if [ "${1:-}" = "--dry-run" ]; then run=(echo); shift; fi
if [ "${1:-}" = "-h" ] || [ "${1:-}" = "--help" ]; then say_usage; exit 0; fi
if [ $# -lt 3 ] || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "launch/seeds.sh: expected a number of seeds, a workdir prefix and flags of demjax.main" >&2
  say_usage >&2
  exit 2
fi
seeds=$1 prefix=$2
shift 2

python=${PYTHON:-python}
workdirs=()
for ((seed = 0; seed < seeds; seed++)); do
  workdirs+=("$prefix-$seed")
  ${run[@]+"${run[@]}"} "$python" -m demjax.main "$@" --config.seed="$seed" --workdir="$prefix-$seed"
  # A run that was asked to stop ends well, but it is not finished: the next seed must not begin.
  if [ ${#run[@]} -eq 0 ] && ! [ -e "$prefix-$seed/report.json" ]; then
    echo "launch/seeds.sh: $prefix-$seed is not finished; the same command resumes" >&2
    exit 1
  fi
done
${run[@]+"${run[@]}"} "$python" -m demjax.tables "${workdirs[@]}"
