#!/usr/bin/env bash
# A Cloud TPU VM slice, v2 to v6e: every worker runs the same command, together they are one run.
#
#   launch/tpu_vm.sh create --name=cub --zone=us-west4-a --type=v5litepod-16 --spot
#   launch/tpu_vm.sh setup  --name=cub --zone=us-west4-a --mount='sudo mkdir -p /mnt/runs && sudo mount ...'
#   launch/tpu_vm.sh run    --name=cub --zone=us-west4-a -- --config=configs/cub.py --workdir=/mnt/runs/cub
#   launch/tpu_vm.sh logs   --name=cub --zone=us-west4-a
#   launch/tpu_vm.sh delete --name=cub --zone=us-west4-a
#   launch/tpu_vm.sh retry  --name=cub --zone=us-west4-a --type=v5litepod-16 --spot --mount=... -- FLAGS OF MAIN
#
#   create  the slice; with --queued a place in the queue, from which it comes by itself
#   setup   sync, then Python and the requirements on every worker, then --mount
#   sync    the last commit of this checkout, to every worker
#   run     starts demjax.main on every worker, detached; its flags follow --
#   logs    follows the log of worker 0, or of --worker=W
#   status  the state of the slice and of the run on every worker
#   stop    SIGTERM on every worker: save and end
#   delete  the slice; it costs until then, whether or not something runs
#   retry   all of it, again and again: creates what is missing or was preempted, sets up, runs, until report.json is
#           there. Safe, because the same command resumes. Leaves the slice; add && launch/tpu_vm.sh delete ...
#
#   --name=, --zone=, --type=, --version=, --project=   or TPU_NAME, TPU_ZONE ...; the version follows from the type
#   --spot --queued       cheaper and preemptible; wait in the queue
#   --mount=COMMAND       for every worker: mounts the folder that all share, where --workdir lies (launch/README.md)
#   --worker=W            for logs and status; default 0 for logs, all for status
#   --retries=N --poll=S  of retry: failures of the run it forgives (10), seconds between looks (60)
#   --dry-run             print the commands, run nothing
set -euo pipefail

say() { echo "launch/tpu_vm.sh: $*" >&2; }
mistake() {
  say "$*"
  say "launch/tpu_vm.sh --help explains"
  exit 2
}
name=${TPU_NAME:-} zone=${TPU_ZONE:-} type=${TPU_TYPE:-} version=${TPU_VERSION:-} project=${TPU_PROJECT:-}
spot='' queued='' mount='' worker='' retries=10 poll=60 dry='' command='' flags=()
while [ $# -gt 0 ]; do
  case $1 in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --mount=*) mount=${1#*=} ;;
    --worker=*) worker=${1#*=} ;;
    --retries=*) retries=${1#*=} ;;
    --poll=*) poll=${1#*=} ;;
    --spot) spot=yes ;;
    --queued) queued=yes ;;
    --dry-run) dry=yes ;;
    -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --) shift; flags=("$@"); break ;;
    -*) mistake "got the option '$1', which there is not; flags of demjax.main follow --" ;;
    *) [ -z "$command" ] || mistake "got '$command' and '$1', expected one command"; command=$1 ;;
  esac
  shift
done
case $command in
  create | setup | sync | run | logs | status | stop | delete | retry) ;;
  *) mistake "got '$command', expected create, setup, sync, run, logs, status, stop, delete or retry" ;;
esac
[ -n "$name" ] || mistake "--name=NAME is missing: the name of the slice"
[ -n "$zone" ] || mistake "--zone=ZONE is missing, e.g. --zone=us-west4-a"
[[ $retries =~ ^[0-9]+$ && $poll =~ ^[0-9]+$ ]] || mistake "got --retries=$retries --poll=$poll, expected whole numbers"
case $command in create | retry) [ -n "$type" ] || mistake "--type=TYPE is missing, e.g. --type=v5litepod-16" ;; esac
if [ -z "$version" ]; then
  case $type in
    v6e*) version=v2-alpha-tpuv6e ;;
    v5p*) version=v2-alpha-tpuv5 ;;
    v5*) version=v2-alpha-tpuv5-lite ;;
    *) version=tpu-ubuntu2204-base ;;
  esac
fi
cd "$(dirname "$0")/.." # git archive sends the folder it is in
workdir=''
for flag in ${flags[@]+"${flags[@]}"}; do
  case $flag in --workdir=*) workdir=${flag#*=} ;; esac
done
case $command in
  run | retry)
    [ -n "$workdir" ] || mistake "-- FLAGS with --workdir=DIR are missing: the flags of demjax.main"
    [[ $workdir == /* ]] || mistake "--workdir=$workdir: expected an absolute path of a mounted folder that all" \
      "workers share; a bucket has to be mounted first, see launch/README.md" ;;
esac

# As 'it''s typed', to be read by people and by the shell of a worker.
quoted() {
  local out='' word
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_./:=,@%+-]*) word="'${word//\'/\'\\\'\'}'" ;;
    esac
    out+="$word "
  done
  printf '%s' "${out% }"
}
do_it() {
  if [ -z "$dry" ]; then "$@"; else printf '%s\n' "$(quoted "$@")"; fi
}
where=(--zone="$zone")
[ -z "$project" ] || where+=(--project="$project")
vm() { do_it gcloud compute tpus tpu-vm "$@" "${where[@]}"; }
queue() { do_it gcloud compute tpus queued-resources "$@" "${where[@]}"; }

on() { vm ssh "$name" --worker="$1" --command="$2"; }

create() {
  local options=(--accelerator-type="$type")
  [ -z "$spot" ] || options+=(--spot)
  if [ -n "$queued" ]; then
    queue create "$name" --node-id="$name" --runtime-version="$version" "${options[@]}" --async
  else
    vm create "$name" --version="$version" "${options[@]}"
  fi
}
delete() {
  if [ -n "$queued" ]; then queue delete "$name" --force --quiet; else vm delete "$name" --quiet; fi
}

# A fresh slice refuses ssh now and then, while its keys travel: three tries.
reach() {
  on all true && return
  [ -z "$dry" ] || return 0
  say "not every worker answers; again in $((poll / 3)) s, then in $poll s"
  sleep $((poll / 3)) && on all true && return
  sleep "$poll" && on all true
}
# Chains of && throughout: in `retry` set -e is off inside, as wherever a function is part of a condition.
sync() {
  local folder=TEMPORARY done=0
  [ -z "$(git status --porcelain 2>/dev/null)" ] || say "note: what is not committed is not sent"
  [ -n "$dry" ] || folder=$(mktemp -d "${TMPDIR:-/tmp}/demjax-XXXXXX")
  # The code under a running process must not change: what it imports late would be of another version.
  do_it git archive --format=tar.gz --output="$folder/demjax.tar.gz" HEAD && reach &&
    on all 'test ! -e demjax || demjax/launch/tpu_worker.sh idle' &&
    vm scp "$folder/demjax.tar.gz" "$name:" --worker=all &&
    on all 'rm -rf demjax && mkdir demjax && tar -xzf demjax.tar.gz -C demjax' || done=$?
  [ -n "$dry" ] || rm -r "$folder"
  return "$done"
}
setup() {
  sync && on all 'demjax/launch/tpu_worker.sh setup' && { [ -z "$mount" ] || on all "$mount"; }
}
# --distributed=on, not auto: where detection fails the run must fail, and not become N runs in one workdir.
run() { on all "demjax/launch/tpu_worker.sh start $(quoted "${flags[@]}") --distributed=on"; }
stop() { on all 'demjax/launch/tpu_worker.sh stop'; }
logs() { on "${worker:-0}" 'tail -n 100 -F demjax-run/log'; }
status() {
  [ -z "$queued" ] || queue describe "$name" --format='value(state.state)'
  vm describe "$name" --format='value(state)'
  on "${worker:-all}" 'demjax/launch/tpu_worker.sh status'
}

# What gcloud says of `vm` or `queue` ($1), field $2; NOT_FOUND; or UNKNOWN where it failed in another way.
described() {
  local errors
  errors=$(mktemp "${TMPDIR:-/tmp}/demjax-XXXXXX")
  if "$1" describe "$name" --format="value($2)" 2>"$errors"; then :; elif grep -q NOT_FOUND "$errors"; then
    echo NOT_FOUND
  else
    echo UNKNOWN
    cat "$errors" >&2
  fi
  rm "$errors"
}
slice_state() {
  local state
  state=$(described vm state)
  if [ "$state" = NOT_FOUND ] && [ -n "$queued" ]; then state=$(described queue state.state); fi
  echo "$state"
}
ask_run="demjax/launch/tpu_worker.sh status $(quoted "$workdir") || echo run on a bare machine: never started"
# Nothing where worker 0 does not answer.
run_state() { on 0 "$ask_run" 2>/dev/null | sed -n 's/^run on [^:]*: //p'; }

explain_retry() {
  echo "# every $poll s a look at the slice"
  vm describe "$name" --format='value(state)'
  [ -z "$queued" ] || queue describe "$name" --format='value(state.state)'
  echo "# not there: create it; preempted, terminated or stopped: delete it first"
  delete
  create
  echo "# ready: a look at the run, on worker 0, where process 0 writes report.json"
  on 0 "$ask_run"
  echo "# never started, stopped, lost or failed (at most $retries times): end what is left, set up and run"
  stop
  setup
  run
  echo "# finished: that was it; the slice stays until: launch/tpu_vm.sh delete"
}
retry() {
  if [ -n "$dry" ]; then explain_retry; return; fi
  local failures=0 slice now='' before=''
  while :; do
    slice=$(slice_state)
    now=$slice
    [ "$slice" != READY ] || now="READY, run $(run_state)"
    [ "$now" = "$before" ] || say "$(date '+%H:%M:%S') slice $now"
    before=$now
    case $now in
      *'run finished'*) exit 0 ;;
      *'run running'* | *'run ') ;; # or worker 0 does not answer: what happened, the slice will say
      *'run '*) # never started, stopped, lost, failed
        case $now in *'run never'*) ;; *) failures=$((failures + 1)) ;; esac
        if [ "$failures" -gt "$retries" ]; then
          say "failed $failures times, --retries=$retries: see launch/tpu_vm.sh logs; the slice is there, and costs"
          exit 1
        fi
        { case $now in *'run never'*) ;; *) stop ;; esac && setup && run; } ||
          { failures=$((failures + 1)) && say "that failed; again in $poll s"; } ;;
      NOT_FOUND) create || say "no slice yet; again in $poll s" ;;
      # Only states that are known to be dead: on a guess nothing is deleted.
      PREEMPTED | TERMINATED | STOPPED | SUSPENDED | FAILED) { delete && create; } || say "again in $poll s" ;;
    esac
    sleep "$poll"
  done
}

"$command"
