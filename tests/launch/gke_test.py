"""launch/gke: the manifests as they are handed to kubectl, mutants of them, and the exit status of a pod."""

import copy
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.waiting import HUNG, wait_until

from .manifests import wrong_with_jobset

GKE = Path(__file__).parents[2] / "launch" / "gke"
RUN = ("--", "--config=configs/cub.py", "--workdir=/runs/cub")
POD = ("--name=cub", "--image=eu.example/demjax:1", "--per-pod=4", "--pods=4")
KINDS = {
    "gpu": ("gpu", *POD, "--accelerator=nvidia-l4"),
    "tpu": ("tpu", *POD, "--accelerator=tpu-v5-lite-podslice", "--topology=4x4"),
}


def submit(*argv, **env):
    env = {"PATH": "/usr/bin:/bin"} | env
    return subprocess.run([GKE / "submit.sh", *argv], capture_output=True, text=True, env=env)


def manifests(*argv):
    done = submit("--dry-run", *argv)
    assert done.returncode == 0, done.stderr
    assert "__" not in "".join(line for line in done.stdout.splitlines() if not line.strip().startswith("#"))
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def others():
    return manifests("rbac") + manifests("workdir")


@pytest.fixture(scope="module")
def jobsets():
    return {kind: manifests(*argv, *RUN)[0] for kind, argv in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wrong(kind, jobsets, others):
    assert wrong_with_jobset(jobsets[kind], others) == []


@pytest.mark.parametrize("kind", KINDS)
def test_on_spot_nodes(kind, others):
    [jobset] = manifests(*KINDS[kind], "--spot", *RUN)
    assert wrong_with_jobset(jobset, others) == []
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert "cloud.google.com/gke-spot" in [t["key"] for t in pod["tolerations"]]


# Where (a path, the last key is set or, with None, removed) and what of the complaint.
SPEC = ("spec",)
JOB = ("spec", "replicatedJobs", 0, "template", "spec")
PODS = (*JOB, "template", "spec")
MUTANTS = [
    ("gpu", (*JOB, "parallelism"), 2, "every completion has to run at once"),
    ("gpu", (*JOB, "completionMode"), "NonIndexed", "Indexed"),
    ("gpu", (*JOB, "backoffLimit"), 6, "backoffLimit"),
    ("gpu", (*JOB, "podFailurePolicy"), None, "podFailurePolicy"),
    ("gpu", ("spec", "replicatedJobs", 0, "replicas"), 2, "replicas"),
    ("gpu", ("spec", "network", "enableDNSHostnames"), False, "enableDNSHostnames"),
    ("gpu", ("spec", "network", "subdomain"), "demjax", "subdomain"),
    ("gpu", ("spec", "failurePolicy", "maxRestarts"), 0, "maxRestarts"),
    ("gpu", ("spec", "failurePolicy", "rules"), [], "rules"),
    ("gpu", ("apiVersion",), "jobset.x-k8s.io/v1alpha1", "v1alpha2"),
    ("gpu", (*PODS, "serviceAccountName"), None, "serviceAccountName"),
    ("gpu", (*PODS, "serviceAccountName"), "somebody", "no service account somebody"),
    ("gpu", (*PODS, "terminationGracePeriodSeconds"), 30, "30 is less than the minimum"),
    ("gpu", (*PODS, "terminationGracePeriodSeconds"), None, "terminationGracePeriodSeconds"),
    ("gpu", (*PODS, "restartPolicy"), "OnFailure", "Never"),
    ("gpu", (*PODS, "hostNetwork"), True, "hostNetwork"),
    ("gpu", (*PODS, "securityContext", "runAsNonRoot"), None, "no root"),
    ("gpu", (*PODS, "volumes", 0, "persistentVolumeClaim", "claimName"), "mine", "every node may write"),
    ("gpu", (*PODS, "volumes", 1), None, "mounted"),
    ("gpu", (*PODS, "containers", 0, "command"), ["python"], "process.sh"),
    ("gpu", (*PODS, "containers", 0, "image"), "demjax:latest", "latest"),
    ("gpu", (*PODS, "containers", 0, "volumeMounts", 0, "mountPath"), "/data", "volumeMounts"),
    ("tpu", (*PODS, "nodeSelector", "cloud.google.com/gke-tpu-topology"), "4x8", "topology 4x8"),
    ("tpu", (*PODS, "containers", 0, "resources", "limits", "google.com/tpu"), 8, "pods of 8 chips"),
    ("tpu", (*PODS, "containers", 0, "resources", "limits", "nvidia.com/gpu"), 4, "limits"),
    ("tpu", (*JOB, "completions"), 8, "every completion has to run at once"),
]


@pytest.mark.parametrize("kind, path, value, told", MUTANTS)
def test_mutants_are_wrong(kind, path, value, told, jobsets, others):
    jobset = copy.deepcopy(jobsets[kind])
    at = jobset
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    assert told in " ".join(wrong_with_jobset(jobset, others))


@pytest.mark.parametrize("kind", ["ServiceAccount", "Role", "RoleBinding", "PersistentVolumeClaim"])
def test_each_of_the_others_is_needed(kind, jobsets, others):
    assert wrong_with_jobset(jobsets["gpu"], [o for o in others if o["kind"] != kind])


def test_a_claim_of_one_node_will_not_do(jobsets, others):
    others = copy.deepcopy(others)
    others[-1]["spec"]["accessModes"] = ["ReadWriteOnce"]
    assert "every node may write" in wrong_with_jobset(jobsets["tpu"], others)[0]


def test_flags_arrive_as_they_are():
    odd = ['--config.a=it\'s "b" & \\c: #d', "--config.b={e}"]
    [jobset] = manifests(*KINDS["gpu"], *RUN, *odd)
    assert jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]["args"] == [
        *RUN[1:], *odd
    ]  # fmt: skip


def test_kubectl_gets_what_a_dry_run_prints(stand_in, tmp_path, calls):
    stand_in("kubectl", f'cat > "{tmp_path}/given"')
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    assert submit(*KINDS["tpu"], *RUN, PATH=path).returncode == 0
    assert (tmp_path / "given").read_text() == submit("--dry-run", *KINDS["tpu"], *RUN).stdout
    assert submit("rbac", PATH=path).returncode == 0
    assert calls() == ["kubectl create -f -", "kubectl apply -f -"]


@pytest.mark.parametrize(
    "argv, told",
    [
        ((), "expected rbac, workdir, gpu or tpu"),
        (("gpu", "--pods=2", *RUN), "--name="),
        ((*KINDS["gpu"], "--name=Cub", *RUN), "--name=Cub"),
        ((*KINDS["gpu"], "--image=a b", *RUN), "--image=a b"),
        ((*KINDS["gpu"], "--pods=0", *RUN), "--pods=0"),
        ((*KINDS["gpu"], "--", "--workdir=gs://bucket/cub"), "below /runs"),
        ((*KINDS["gpu"], "--config=c.py"), "got the option '--config=c.py'"),
        ((*KINDS["tpu"], "--topology=4by4", *RUN), "--topology=4by4"),
        ((*KINDS["tpu"], "--topology=4x8", *RUN), "has 32 chips"),
    ],
)
def test_mistakes(argv, told):
    done = submit(*argv)
    assert done.returncode == 2 and told in done.stderr and "--help" in done.stderr


@pytest.mark.parametrize(
    "index, python, status",
    [
        ("0", 'touch "$R"', 0),
        ("0", "exit 0", 75),
        ("3", "exit 0", 0),  # it may see the report late, and must not be the one that says there is none
        ("0", 'touch "$R"; exit 1', 1),
        ("3", "exit 134", 134),
        ("0", "exit 75", 75),
    ],
)
def test_status_of_a_pod(index, python, status, stand_in, tmp_path, calls):
    python = stand_in("python", f'R="{tmp_path}/report.json"; {python}')
    env = {"PATH": "/usr/bin:/bin", "PYTHON": python, "JOB_COMPLETION_INDEX": index}
    done = subprocess.run([GKE / "process.sh", "--config=c d.py", f"--workdir={tmp_path}"], env=env)
    assert done.returncode == status
    assert calls() == [f"python -m demjax.main --config=c d.py --workdir={tmp_path} --distributed=on"]


def test_a_pod_passes_sigterm_on(stand_in, tmp_path):
    """And waits for the save: the end of process 1 of a container is the end of all."""
    up, saved = tmp_path / "up", tmp_path / "saved"
    plan = f'trap \'sleep 0.3; touch "{saved}"; exit 0\' TERM; touch "{up}"; while :; do sleep 0.05; done'
    env = {"PATH": "/usr/bin:/bin", "PYTHON": stand_in("python", plan)}
    process = subprocess.Popen([GKE / "process.sh", f"--workdir={tmp_path}"], env=env)
    wait_until(lambda: up.exists() or process.poll() is not None, "the start of Python")
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=HUNG) == 75 and saved.exists()


def test_a_pod_needs_a_workdir():
    done = subprocess.run([GKE / "process.sh", "--config=c.py"], capture_output=True, text=True)
    assert done.returncode == 2 and "--workdir=DIR is missing" in done.stderr
