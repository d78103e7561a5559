#!/usr/bin/env bash
# What launch/tpu_vm.sh has every worker of a TPU VM do, in the copy of the project there. By hand it is a way to run
# something detached on any Linux machine.
#
#   launch/tpu_worker.sh setup                  Python and the requirements, with JAX for TPU, into ~/demjax-venv
#   launch/tpu_worker.sh start FLAGS OF MAIN    begins a run that outlives this terminal; refuses a second one
#   launch/tpu_worker.sh status [WORKDIR]       never started | running | finished | stopped | failed | lost, and more
#   launch/tpu_worker.sh idle                   fails while a run is underway
#   launch/tpu_worker.sh stop                   SIGTERM: save and end; waits for it, 300 s at most, then kills
#   launch/tpu_worker.sh --dry-run ...          the commands, run nothing
#
# The log is ~/demjax-run/log, appended to by every start. DEMJAX_RUN names another folder for it, PYTHON another
# Python, STOP_SECONDS how long stop waits.
set -euo pipefail

say() { echo "launch/tpu_worker.sh: $*" >&2; }
here=$(cd "$(dirname "$0")/.." && pwd)
venv=$HOME/demjax-venv
folder=${DEMJAX_RUN:-$HOME/demjax-run}
python=${PYTHON:-$venv/bin/python}
uv_version=0.13.9

dry=''
if [ "${1:-}" = "--dry-run" ]; then dry=yes; shift; fi
do_it() {
  if [ -z "$dry" ]; then "$@"; return; fi
  local line
  line=$(printf '%q ' "$@")
  echo "${line% }"
}
field() { cat "$folder/$1" 2>/dev/null || true; }

# Whether the detached half of the last start is there. After a reboot its number may be that of something else.
alive() {
  local holder
  holder=$(field holder)
  [ -n "$holder" ] && ps -o args= -p "$holder" 2>/dev/null | grep -q 'tpu_worker.sh hold'
}

# The images of TPU VMs have Python 3.10 and demjax needs 3.11: uv brings it.
setup() {
  local jax
  jax=$(sed -n 's/^jax==//p' "$here/requirements.txt")
  do_it python3 -m pip install --quiet --user "uv==$uv_version"
  if ! [ -x "$venv/bin/python" ]; then do_it "$HOME/.local/bin/uv" venv --python 3.11 "$venv"; fi
  do_it "$HOME/.local/bin/uv" pip install --quiet --python "$venv/bin/python" \
    -r "$here/requirements.txt" "jax[tpu]==$jax"
}

start() {
  local workdir='' flag try
  for flag in "$@"; do
    case $flag in --workdir=*) workdir=${flag#*=} ;; esac
  done
  if [ -z "$workdir" ]; then
    say "--workdir=DIR is missing: expected a folder that all workers share"
    exit 2
  fi
  if [ -n "$dry" ]; then
    do_it "$python" -m demjax.main "$@"
    return
  fi
  idle
  mkdir -p "$folder"
  rm -f "$folder/pid" "$folder/holder" "$folder/exit"
  echo "$workdir" >"$folder/workdir"
  # A session of its own and no open terminal: ssh returns at once and its end does not end the run.
  setsid nohup "$0" hold "$@" </dev/null >>"$folder/log" 2>&1 &
  for try in {1..100}; do
    [ ! -s "$folder/pid" ] || break
    [ "$try" -lt 100 ] || { say "it did not start in 10 s: see $folder/log"; exit 1; }
    sleep 0.1
  done
  echo "started, process $(field pid), log $folder/log"
}

# The detached half of start: waits for the run and writes down how it ended.
hold() {
  local status=0 child
  echo $$ >"$folder/holder"
  cd "$here"
  echo "launch/tpu_worker.sh: $(date '+%Y-%m-%d %H:%M:%S') $*"
  trap : TERM # of a machine that goes down: the run hears it too, and its end is still worth a line
  "$python" -m demjax.main "$@" &
  child=$!
  echo "$child" >"$folder/pid"
  wait "$child" || status=$?
  while kill -0 "$child" 2>/dev/null; do # a signal ended the wait, not the run
    status=0
    wait "$child" || status=$?
  done
  echo "$status" >"$folder/exit"
}

idle() {
  if alive; then
    say "a run is underway (process $(field pid), workdir $(field workdir)): wait for it or stop it"
    exit 1
  fi
}

status() {
  local workdir report told
  workdir=$(field workdir) report="$workdir/report.json"
  if [ -z "$workdir" ] || { [ -n "${1:-}" ] && [ "$1" != "$workdir" ]; }; then
    told="never started${1:+ with workdir $1}"
  elif alive; then
    told="running, process $(field pid), workdir $workdir"
  elif ! [ -s "$folder/exit" ]; then
    told="lost: no process and no exit status, the machine went down; the same command resumes"
  elif [ "$(field exit)" != 0 ]; then
    told="failed with status $(field exit), see $folder/log"
  elif [ -e "$report" ]; then
    told="finished: $report"
  else
    told="stopped: saved, not finished (no $report); the same command resumes"
  fi
  echo "run on $(hostname): $told"
}

stop() {
  local end=$((SECONDS + ${STOP_SECONDS:-300}))
  if ! alive; then
    say "nothing is running"
    return
  fi
  do_it kill -TERM "$(field pid)"
  [ -z "$dry" ] || return 0
  while alive; do
    if [ "$SECONDS" -ge "$end" ]; then
      say "still there after ${STOP_SECONDS:-300} s: killed"
      kill -KILL "$(field pid)"
      end=$((SECONDS + 60)) # the rest is to write down how it ended
    fi
    sleep 0.2
  done
}

command=${1:-}
[ $# = 0 ] || shift
case $command in
  setup | start | idle | status | stop | hold) "$command" "$@" ;;
  -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" ;;
  *)
    say "got '$command', expected setup, start, status or stop; --help explains"
    exit 2
    ;;
esac
