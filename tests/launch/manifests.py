"""What is wrong with the manifests of launch/gke, as sentences; nothing where nothing is."""

import json
import math
from pathlib import Path

import jsonschema

SCHEMA = json.loads((Path(__file__).parent / "jobset.schema.json").read_text())


def wrong_with_jobset(jobset: dict, others: list[dict]) -> list[str]:
    """Of a JobSet that is to run beside `others`: accounts, roles, claims."""
    errors = jsonschema.Draft202012Validator(SCHEMA).iter_errors(jobset)
    wrong = [f"{error.json_path}: {error.message[:200]}" for error in errors]
    if wrong:
        return wrong  # the relations need the fields
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    container, namespace = pod["containers"][0], jobset["metadata"]["namespace"]
    if job["parallelism"] != job["completions"]:
        wrong.append("parallelism is the number of processes for JAX: every completion has to run at once")
    mounts, volumes = ({v["name"] for v in part} for part in (container["volumeMounts"], pod["volumes"]))
    if mounts != volumes:
        wrong.append(f"mounted: {sorted(mounts)}, there: {sorted(volumes)}")
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    shared = [o["metadata"]["name"] for o in named(others, "PersistentVolumeClaim", namespace) if is_shared(o)]
    if not set(claims) <= set(shared) or len(claims) != 1:
        wrong.append(f"claims {claims}, of which every node may write to {shared}")
    [(accelerator, per_pod)] = container["resources"]["limits"].items()
    if accelerator == "google.com/tpu":
        topology = pod["nodeSelector"].get("cloud.google.com/gke-tpu-topology", "0")
        if math.prod(map(int, topology.split("x"))) != job["parallelism"] * per_pod:
            wrong.append(f"topology {topology}, but {job['parallelism']} pods of {per_pod} chips")
        if "cloud.google.com/gke-tpu-accelerator" not in pod["nodeSelector"]:
            wrong.append("no kind of TPU is selected")
    else:
        if "cloud.google.com/gke-accelerator" not in pod["nodeSelector"]:
            wrong.append("no kind of GPU is selected")
        if not pod["securityContext"].get("runAsNonRoot"):
            wrong.append("a GPU needs no root")
        wrong += wrong_with_account(pod["serviceAccountName"], namespace, others)
    return wrong


def wrong_with_account(account: str, namespace: str, others: list[dict]) -> list[str]:
    """Whether the account may ask what jax/_src/clusters/k8s_cluster.py asks: list pods, get jobs."""
    if account not in [o["metadata"]["name"] for o in named(others, "ServiceAccount", namespace)]:
        return [f"there is no service account {account}"]
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    roles = [o["roleRef"]["name"] for o in named(others, "RoleBinding", namespace) if subject in o["subjects"]]
    rules = [r for o in named(others, "Role", namespace) if o["metadata"]["name"] in roles for r in o["rules"]]
    may = {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
    missing = {("", "pods", "list"), ("batch", "jobs", "get")} - may
    return [f"{account} may not {verb} {resource}" for _, resource, verb in sorted(missing)]


def named(others: list[dict], kind: str, namespace: str) -> list[dict]:
    """Those of one kind in the namespace."""
    return [o for o in others if o["kind"] == kind and o["metadata"]["namespace"] == namespace]


def is_shared(claim: dict) -> bool:
    """Whether pods on several nodes may write to it."""
    return claim["spec"]["accessModes"] == ["ReadWriteMany"]
