#!/usr/bin/env bash
# What a pod of launch/gke runs: one process of demjax.main, with an exit status that Kubernetes can act on.
#
#   launch/gke/process.sh --config=configs/cub.py --workdir=/runs/cub
#   launch/gke/process.sh --dry-run --config=configs/cub.py --workdir=/runs/cub
#
# demjax ends with 0 both when it has finished and when it was asked to stop and has saved. Kubernetes would take the
# second for the first and never come back. So the pod of process 0, which alone writes the report, ends with 75 where
# it ended with 0 but left no report: the Job fails, and the JobSet starts all pods again, which resume. The other pods
# pass their status on, because a shared folder may show them the report of process 0 late.
#
# demjax itself ends with 75 where another process has gone: start the same command again.
set -euo pipefail

say_usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }
dry=''
if [ "${1:-}" = "--dry-run" ]; then dry=yes; shift; fi
if [ "${1:-}" = "-h" ] || [ "${1:-}" = "--help" ]; then say_usage; exit 0; fi

workdir=''
for flag in "$@"; do
  case $flag in --workdir=*) workdir=${flag#*=} ;; esac
done
if [ -z "$workdir" ]; then
  echo "launch/gke/process.sh: --workdir=DIR is missing: expected a folder of the shared volume, e.g. /runs/cub" >&2
  exit 2
fi
report=$workdir/report.json
# on, not auto: where detection fails the run must fail, and not become N runs of one process in one workdir.
command=("${PYTHON:-python}" -m demjax.main "$@" --distributed=on)

if [ -n "$dry" ]; then
  line=$(printf '%q ' "${command[@]}")
  echo "${line% }"
  echo "# process 0: status 75 instead of 0 unless $report exists"
  exit 0
fi

# This script is process 1 of the container, to which Kubernetes sends SIGTERM: the child has to hear of it.
child='' asked=0
# shellcheck disable=SC2329  # the trap calls it
pass_on() {
  asked=1
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}
trap pass_on TERM INT
"${command[@]}" &
child=$!
[ "$asked" = 0 ] || pass_on

# A signal ends `wait` early, with a status of the signal and not of the child.
status=0
wait "$child" || status=$?
while kill -0 "$child" 2>/dev/null; do
  status=0
  wait "$child" || status=$?
done

if [ "$status" = 0 ] && [ "${JOB_COMPLETION_INDEX:-0}" = 0 ] && ! [ -e "$report" ]; then
  echo "launch/gke/process.sh: saved, not finished (no $report): status 75, so that the JobSet starts again" >&2
  exit 75
fi
exit "$status"
