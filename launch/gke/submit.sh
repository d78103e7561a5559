#!/usr/bin/env bash
# Fills in the manifests of launch/gke and hands them to kubectl.
#
#   launch/gke/submit.sh rbac                    once per namespace: who the pods are, and what they may ask
#   launch/gke/submit.sh workdir --size=1Ti      once: the folder that all pods share, at /runs
#   launch/gke/submit.sh gpu --name=cub --image=REGISTRY/demjax:cuda13 --pods=2 --per-pod=8 \
#       --accelerator=nvidia-h100-80gb -- --config=configs/cub.py --workdir=/runs/cub
#   launch/gke/submit.sh tpu --name=cub --image=REGISTRY/demjax:tpu --pods=4 --per-pod=4 \
#       --accelerator=tpu-v5-lite-podslice --topology=4x4 -- --config=configs/cub.py --workdir=/runs/cub
#
#   --pods=N --per-pod=K  nodes, and GPUs or TPU chips of a node; with a topology AxB, N times K is A times B
#   --spot                on Spot nodes
#   --restarts=N          after failures, 10; evictions and vanished nodes do not count
#   --claim=NAME          of the shared folder, demjax-runs; --class=NAME, --size=SIZE of a new one
#   --namespace=NAME      default
#   --dry-run             print the manifests, ask Kubernetes nothing
#
# The same command resumes, once the old JobSet is gone: kubectl delete jobset NAME.
set -euo pipefail

mistake() {
  echo "launch/gke/submit.sh: $*" >&2
  echo "launch/gke/submit.sh --help explains" >&2
  exit 2
}
shopt -u patsub_replacement 2>/dev/null || true # in bash 5.2 an & in a value would stand for what is replaced
here=$(dirname "$0")
kind='' dry='' spot='' name='' image='' pods='' per_pod='' accelerator='' topology='' flags=()
restarts=10 claim=demjax-runs class=standard-rwx size=1Ti namespace=default
while [ $# -gt 0 ]; do
  case $1 in
    --name=*) name=${1#*=} ;;
    --image=*) image=${1#*=} ;;
    --pods=*) pods=${1#*=} ;;
    --per-pod=*) per_pod=${1#*=} ;;
    --accelerator=*) accelerator=${1#*=} ;;
    --topology=*) topology=${1#*=} ;;
    --restarts=*) restarts=${1#*=} ;;
    --claim=*) claim=${1#*=} ;;
    --class=*) class=${1#*=} ;;
    --size=*) size=${1#*=} ;;
    --namespace=*) namespace=${1#*=} ;;
    --spot) spot=yes ;;
    --dry-run) dry=yes ;;
    -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --) shift; flags=("$@"); break ;;
    -*) mistake "got the option '$1', which there is not; flags of demjax.main follow --" ;;
    *) [ -z "$kind" ] || mistake "got '$kind' and '$1', expected one of rbac, workdir, gpu, tpu"; kind=$1 ;;
  esac
  shift
done

word() { # what may stand between quotes in a manifest
  [[ $2 =~ ^[A-Za-z0-9][A-Za-z0-9._/:@-]*$ ]] || mistake "$1=$2: expected letters, digits and . _ / : @ -"
}
case $kind in
  rbac | workdir) file=$here/$kind.yaml ;;
  gpu | tpu)
    file=$here/jobset-$kind.yaml
    [[ $name =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] || mistake "--name=$name: expected small letters, digits and -"
    word --image "$image"
    word --accelerator "$accelerator"
    [[ $pods =~ ^[1-9][0-9]*$ ]] || mistake "--pods=$pods: expected how many nodes"
    [[ $per_pod =~ ^[1-9][0-9]*$ ]] || mistake "--per-pod=$per_pod: expected how many GPUs or TPU chips a node has"
    [[ $restarts =~ ^[0-9]+$ ]] || mistake "--restarts=$restarts: expected a whole number"
    workdir=''
    for flag in ${flags[@]+"${flags[@]}"}; do
      case $flag in --workdir=*) workdir=${flag#*=} ;; esac
    done
    [[ $workdir == /runs/?* ]] ||
      mistake "--workdir=$workdir after --: expected a folder below /runs, where the shared folder is mounted" ;;
  *) mistake "got '$kind', expected rbac, workdir, gpu or tpu" ;;
esac
if [ "$kind" = tpu ]; then
  [[ $topology =~ ^[1-9][0-9]*(x[1-9][0-9]*)+$ ]] || mistake "--topology=$topology: expected e.g. 4x4 or 2x2x4"
  chips=$((${topology//x/ * }))
  [ "$chips" = $((pods * per_pod)) ] ||
    mistake "--topology=$topology has $chips chips, --pods=$pods times --per-pod=$per_pod is $((pods * per_pod))"
fi
word --claim "$claim"
word --class "$class"
word --size "$size"
word --namespace "$namespace"

manifest() {
  local line flag indent
  while IFS= read -r line; do
    if [[ $line == *'#spot '* ]]; then
      [ -n "$spot" ] || continue
      line=${line/'#spot '/}
    fi
    if [[ $line == *'- __FLAGS__' ]]; then
      indent=${line%__FLAGS__}
      for flag in "${flags[@]}"; do
        flag=${flag//\\/\\\\}
        echo "$indent\"${flag//\"/\\\"}\""
      done
      continue
    fi
    line=${line//__NAMESPACE__/$namespace}
    line=${line//__NAME__/$name}
    line=${line//__IMAGE__/$image}
    line=${line//__PODS__/$pods}
    line=${line//__PER_POD__/$per_pod}
    line=${line//__ACCELERATOR__/$accelerator}
    line=${line//__TOPOLOGY__/$topology}
    line=${line//__RESTARTS__/$restarts}
    line=${line//__CLAIM__/$claim}
    line=${line//__CLASS__/$class}
    echo "${line//__SIZE__/$size}"
  done <"$file"
}

if [ -n "$dry" ]; then manifest; exit 0; fi
# create, not apply: a JobSet of that name that has ended would be left as it is, and nothing would run.
case $kind in
  rbac | workdir) manifest | kubectl apply -f - ;;
  *) manifest | kubectl create -f - ;;
esac
