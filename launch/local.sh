#!/usr/bin/env bash
# Several processes of one run on this machine, by the code path of a cluster: a coordinator, the others, one mesh.
#
#   launch/local.sh --processes=2 -- --config=configs/synthetic.py --workdir=runs/two
#   launch/local.sh --processes=2 --devices=4 -- --config=configs/synthetic.py --workdir=runs/eight
#   launch/local.sh --dry-run --processes=2 -- --config=configs/synthetic.py
#
#   --processes=N  how many; each gets --coordinator_address, --num_processes and --process_id
#   --devices=D    D virtual CPU devices in each: sets JAX_PLATFORMS=cpu, JAX_NUM_CPU_DEVICES=D and, unless it is set,
#                  NPROC=32, because XLA deadlocks where it has fewer threads than devices. Without it nothing is
#                  set, and every process takes what JAX finds: on GPUs one process drives all, use no launcher there
#   --port=P       of the coordinator; without it a free one
#   --logs=DIR     where processes 1 to N-1 write, process-I.log each; without it a new temporary folder.
#                  Process 0 writes to the terminal
#   --grace=S      seconds that the others get once one has failed; 120. They notice at once one that has ended, and
#                  after 100 one that is silent
#   --dry-run      print the commands, run nothing
#
# Ctrl-C, SIGTERM and SIGHUP reach every process as SIGTERM: all save and end, and the same command resumes. A second
# one kills. Exit status: that of the first process that failed, 75 (another one has gone) only if there is no other;
# else 0. PYTHON=... names another Python.
set -euo pipefail

say_usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }
say() { echo "launch/local.sh: $*" >&2; }
mistake() {
  say "$*"
  say "launch/local.sh --help explains"
  exit 2
}
number() {
  [[ $2 =~ ^[1-9][0-9]*$ ]] || mistake "$1=$2: expected a whole number of at least 1"
}

processes='' devices='' port='' logs='' grace=120 dry=''
while [ $# -gt 0 ]; do
  case $1 in
    --processes=*) processes=${1#*=}; number --processes "$processes" ;;
    --devices=*) devices=${1#*=}; number --devices "$devices" ;;
    --port=*) port=${1#*=}; number --port "$port" ;;
    --grace=*) grace=${1#*=}; number --grace "$grace" ;;
    --logs=?*) logs=${1#*=} ;;
    --dry-run) dry=yes ;;
    -h | --help) say_usage; exit 0 ;;
    --) shift; break ;;
    *) mistake "got '$1', expected --processes=N, other options, then -- and the flags of demjax.main" ;;
  esac
  shift
done
[ -n "$processes" ] || mistake "--processes=N is missing: say how many processes"
[ $# -gt 0 ] || mistake "nothing after --: expected the flags of demjax.main, e.g. -- --config=configs/synthetic.py"
for flag in "$@"; do
  case $flag in
    --distributed* | --coordinator_address* | --num_processes* | --process_id*)
      mistake "got $flag: launch/local.sh sets it itself, leave it out" ;;
  esac
done

# Below the range from which the system gives out ports, so that nothing takes it between this look and its use.
free_port() {
  local candidate try
  for try in {1..50}; do
    candidate=$((20000 + (RANDOM + try) % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null || { echo "$candidate"; return; }
  done
  say "no free port among 50 tried between 20000 and 32000: name one with --port=P"
  return 1
}

if [ -z "$port" ]; then
  if [ -n "$dry" ]; then port=PORT; else port=$(free_port); fi
fi
settings=()
[ -z "$devices" ] || settings=(env JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES="$devices" NPROC="${NPROC:-32}")
flags=("$@")
# Sets `command` to what process $1 runs.
compose() {
  command=(${settings[@]+"${settings[@]}"} "${PYTHON:-python}" -m demjax.main "${flags[@]}"
    --coordinator_address="127.0.0.1:$port" --num_processes="$processes" --process_id="$1")
}

if [ -n "$dry" ]; then
  for ((i = 0; i < processes; i++)); do
    compose "$i"
    line=$(printf '%q ' "${command[@]}")
    [ "$i" = 0 ] || line+=" >> ${logs:-LOGS}/process-$i.log 2>&1"
    echo "${line% }"
  done
  exit 0
fi

asked=0 pids=()
signal_all() {
  local pid
  for pid in ${pids[@]+"${pids[@]}"}; do kill "-$1" "$pid" 2>/dev/null || true; done
}
# shellcheck disable=SC2329  # the trap calls it
stop() {
  asked=$((asked + 1))
  if [ "$asked" = 1 ]; then
    say "asked every process to save and stop; once more kills them"
    signal_all TERM
  else
    signal_all KILL
  fi
}
trap stop INT TERM HUP

if [ -n "$logs" ]; then mkdir -p "$logs"; else logs=$(mktemp -d "${TMPDIR:-/tmp}/demjax-local-XXXXXX"); fi
[ "$processes" = 1 ] || say "process 0 writes here, process I to $logs/process-I.log"
# Each in a process group of its own: a Ctrl-C of the terminal then reaches this script alone, and every process hears
# one signal, not two.
set -m
for ((i = 0; i < processes && !asked; i++)); do
  compose "$i"
  if [ "$i" = 0 ]; then
    "${command[@]}" </dev/null &
  else
    "${command[@]}" </dev/null >>"$logs/process-$i.log" 2>&1 &
  fi
  pids+=($!)
done
set +m
[ "$asked" = 0 ] || signal_all TERM # those that began while the signal was being passed on

failed=0 deadline='' killed='' ended=()
note_end() { # of process $1 with status $2
  ended[$1]=$2
  [ "$2" != 0 ] || return 0
  say "process $1 ended with status $2"
  if [ -z "$deadline" ]; then
    deadline=$((SECONDS + grace))
    say "the others get $grace s to notice"
  fi
  # 75 is the echo of a failure that may be looked at later in the same round.
  [ "$failed" = 0 ] || { [ "$failed" = 75 ] && [ "$2" != 75 ] && [ -z "$killed" ]; } || return 0
  failed=$2
  [ "$1" = 0 ] || [ "$2" = 75 ] || {
    say "the last lines of $logs/process-$1.log:"
    tail -n 5 "$logs/process-$1.log" >&2
  }
}
while :; do
  alive=0
  for i in "${!pids[@]}"; do
    [ -z "${ended[i]:-}" ] || continue
    if kill -0 "${pids[i]}" 2>/dev/null; then
      alive=$((alive + 1))
    else
      status=0
      wait "${pids[i]}" || status=$?
      note_end "$i" "$status"
    fi
  done
  [ "$alive" -gt 0 ] || break
  if [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ]; then
    say "$alive still there after $grace s: killed"
    signal_all KILL
    killed=yes deadline=$((SECONDS + grace))
  fi
  sleep 0.2 || true # a Ctrl-C ends it, too
done
exit "$failed"
