"""launch/tpu_vm.sh, with a stand-in for gcloud whose slice lives in a folder: what is sent by ssh is run there."""

import subprocess
from pathlib import Path

import pytest

from tests.waiting import HUNG, wait_until

SCRIPT = Path(__file__).parents[2] / "launch" / "tpu_vm.sh"
GOAL = ("--name=cub", "--zone=z", "--poll=0")
# Answers to `describe` come from the file `states`, one a call, the last one for ever; a worker is a home folder.
GCLOUD = """
case $* in
  *" describe "*)
    state=$(head -n 1 "$T/states"); [ "$(wc -l < "$T/states")" = 1 ] || sed -i 1d "$T/states"
    case $state in *' '*) echo "ERROR: (gcloud) $state" >&2; exit 1 ;; *) echo "$state" ;; esac ;;
  *" ssh "*)
    for a in "$@"; do case $a in --command=*) command=${a#*=} ;; esac; done
    cd "$T/worker" && HOME=$T/worker bash -c "$command" </dev/null ;;
  *" scp "*) cp "$5" "$T/worker/" ;;
  *" delete "*) rm -rf "$T/worker" ;;
  *" create "*) mkdir -p "$T/worker/demjax-venv/bin" "$T/worker/.local/bin"
    cp "$T/bin/python" "$T/worker/demjax-venv/bin/python"; cp "$T/bin/uv" "$T/worker/.local/bin/uv" ;;
esac
"""
FINISHES = 'for a in "$@"; do case $a in --workdir=*) mkdir -p "${a#*=}"; touch "${a#*=}/report.json" ;; esac; done'
# The working tree, not the last commit: that is what is tested.
GIT = """
for a in "$@"; do case $a in --output=*) output=${a#*=} ;; esac; done
[ "$1" != archive ] || tar -czf "$output" requirements.txt launch demjax/main.py
"""
MISSING = "NOT_FOUND: Resource was not found"


@pytest.fixture
def vm(tmp_path, stand_in, end_of_processes):
    """vm(*argv, states=[...], python=body): python is what the run on the worker does."""

    def call(*argv, states=("READY",), python=FINISHES):
        (tmp_path / "states").write_text("\n".join(states) + "\n")
        stand_in("gcloud", f'T="{tmp_path}"\n{GCLOUD}')
        stand_in("git", GIT)
        stand_in("python", python)
        for name in ("python3", "uv"):
            stand_in(name)
        env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
        return subprocess.run([SCRIPT, *argv], capture_output=True, text=True, env=env, timeout=HUNG)

    return call


def asked(calls, *words):
    return [c for c in calls() if c.startswith("gcloud") and any(f" {w} " in c for w in words)]


def test_by_hand_from_nothing_to_a_report(vm, tmp_path, calls):
    flags = ("--", f"--workdir={tmp_path}/it's a run", "--config.data.dir=$HOME & more")
    for command in (("create", "--type=v5litepod-16"), ("setup", "--mount=echo mounted > mounted"), ("run", *flags)):
        done = vm(command[0], *GOAL, *command[1:])
        assert done.returncode == 0, done.stderr
    wait_until(lambda: "running" not in vm("status", *GOAL).stdout, "the end of the run", every=0)
    done = vm("status", *GOAL)
    assert "READY" in done.stdout and f"finished: {tmp_path}/it's a run/report.json" in done.stdout
    assert (tmp_path / "worker/mounted").exists() and (tmp_path / "worker/demjax/demjax/main.py").exists()
    run = [c for c in calls() if c.startswith("python -m")]
    assert run == [
        f"python -m demjax.main --workdir={tmp_path}/it's a run --config.data.dir=$HOME & more --distributed=on"
    ]
    assert vm("delete", *GOAL).returncode == 0 and not (tmp_path / "worker").exists()


def test_retry_makes_a_slice_and_comes_back_after_preemption(vm, tmp_path, calls):
    states = [MISSING, "CREATING", "READY", "PREEMPTED", "READY"]
    done = vm("retry", *GOAL, "--type=v6e-8", "--spot", "--", f"--workdir={tmp_path}/w", states=states)
    assert done.returncode == 0, done.stderr
    assert "CREATING" in done.stderr and "READY, run finished" in done.stderr
    order = [c.split()[4] for c in asked(calls, "create", "delete")]
    assert order == ["create", "delete", "create"]
    assert all("--version=v2-alpha-tpuv6e" in c and "--spot" in c for c in asked(calls, "create"))
    assert [c for c in calls() if c.startswith("python -m")], "and it ran"


def test_retry_waits_in_the_queue(vm, tmp_path, calls):
    states = [MISSING, MISSING, MISSING, "WAITING_FOR_RESOURCES", MISSING, "SUSPENDED", "READY"]
    argv = ("--type=v5p-8", "--queued", "--", f"--workdir={tmp_path}/w")
    done = vm("retry", *GOAL, *argv, states=states)
    assert done.returncode == 0, done.stderr
    assert [c.split()[3:5] for c in asked(calls, "create", "delete")] == [
        ["queued-resources", "create"], ["queued-resources", "delete"], ["queued-resources", "create"]
    ]  # fmt: skip
    assert "--force" in asked(calls, "delete")[0] and "WAITING_FOR_RESOURCES" in done.stderr


def test_retry_deletes_nothing_on_a_guess(vm, tmp_path, calls):
    (tmp_path / "w").mkdir()
    states = [MISSING, "PERMISSION_DENIED: no credentials", "REPAIRING", "READY"]
    done = vm("retry", *GOAL, "--type=v5p-8", "--", f"--workdir={tmp_path}/w", states=states)
    assert done.returncode == 0 and "no credentials" in done.stderr and "slice UNKNOWN" in done.stderr
    assert asked(calls, "delete") == [] and len(asked(calls, "create")) == 1


def test_retry_forgives_some_failures(vm, tmp_path, calls):
    python = f'echo x >> "{tmp_path}/tries"; [ "$(wc -l < "{tmp_path}/tries")" -gt 1 ] || exit 1\n{FINISHES}'
    argv = ("--type=v5p-8", "--", f"--workdir={tmp_path}/w")
    done = vm("retry", *GOAL, *argv, states=[MISSING, "READY"], python=python)
    assert done.returncode == 0 and "run failed with status 1" in done.stderr, done.stderr
    assert len([c for c in calls() if c.startswith("python -m")]) == 2


def test_retry_gives_up(vm, tmp_path, calls):
    argv = ("--type=v5p-8", "--retries=1", "--", f"--workdir={tmp_path}/w")
    done = vm("retry", *GOAL, *argv, states=[MISSING, "READY"], python="exit 3")
    assert done.returncode == 1 and "failed 2 times" in done.stderr and asked(calls, "delete") == []


def test_code_under_a_run_is_not_replaced(vm, tmp_path):
    vm("create", *GOAL, "--type=v5p-8", python="while :; do sleep 0.1; done")
    assert vm("setup", *GOAL).returncode == 0
    assert vm("run", *GOAL, "--", f"--workdir={tmp_path}/w").returncode == 0
    done = vm("sync", *GOAL)
    assert done.returncode != 0 and "a run is underway" in done.stderr
    assert (tmp_path / "worker/demjax/demjax/main.py").exists()
    assert vm("stop", *GOAL).returncode == 0


@pytest.mark.parametrize(
    "argv, told",
    [
        ((), "expected create, setup"),
        (("begin", "--name=a", "--zone=z"), "got 'begin'"),
        (("create", "--zone=z", "--type=v6e-8"), "--name=NAME is missing"),
        (("create", "--name=a", "--type=v6e-8"), "--zone=ZONE is missing"),
        (("create", "--name=a", "--zone=z"), "--type=TYPE is missing"),
        (("run", "--name=a", "--zone=z", "--config=c"), "got the option '--config=c'"),
        (("run", "--name=a", "--zone=z", "--", "--config=c"), "--workdir=DIR are missing"),
        (("run", "--name=a", "--zone=z", "--", "--workdir=gs://b/r"), "a bucket has to be mounted"),
        (("run", "--name=a", "--zone=z", "--", "--workdir=runs/r"), "expected an absolute path"),
        (("retry", "--name=a", "--zone=z", "--poll=soon"), "--poll=soon"),
    ],
)
def test_mistakes(vm, calls, argv, told):
    done = vm(*argv)
    assert done.returncode == 2 and told in done.stderr and "--help" in done.stderr
    assert calls() == []


def test_the_environment_names_the_slice(tmp_path):
    env = {"PATH": "/usr/bin:/bin", "TPU_NAME": "cub", "TPU_ZONE": "z", "TPU_TYPE": "v4-8", "TPU_PROJECT": "mine"}
    done = subprocess.run([SCRIPT, "create", "--dry-run"], capture_output=True, text=True, env=env, check=True)
    wanted = ("create cub", "--zone=z", "--accelerator-type=v4-8", "--version=tpu-ubuntu2204-base", "--project=mine")
    assert all(w in done.stdout for w in wanted)
