"""The manifests for Kubernetes are what KubeRay and Kubernetes take, and what the jobs need."""

import copy
import inspect
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError
from ray.dashboard import http_server_agent, http_server_head
from ray.scripts.scripts import start

from jobs.kuberay import KUBERNETES, check_manifest

ROOT = Path(__file__).parents[2]


def load(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def job():
    return load("jobs/rayjob.yaml")


@pytest.fixture(scope="module")
def cluster(job):
    return job["spec"]["rayClusterSpec"]


@pytest.fixture(scope="module")
def pods(cluster):
    """Return the pods that Ray runs in, by the names of their groups."""
    workers = {group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"]["spec"], **workers}


def container(pod):
    (only,) = pod["containers"]
    return only


@pytest.mark.parametrize("path", ["jobs/raycluster.yaml", "jobs/rayjob.yaml", "serve/rayservice.yaml"])
def test_kuberay_takes_the_manifests(path):
    manifest = load(path)
    check_manifest(manifest)
    for spoil in (unknown_field, number_for_text, unknown_pod_field, text_for_number, missing_pod):
        spoilt = copy.deepcopy(manifest)
        spoil(cluster_of(spoilt))
        with pytest.raises((ValidationError, kubernetes_validate.ValidationError)):
            check_manifest(spoilt)


def cluster_of(manifest):
    spec = manifest["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def unknown_field(cluster):
    cluster["workerGroupSpec"] = []


def number_for_text(cluster):
    cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def unknown_pod_field(cluster):
    cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["limits"] = {"cpu": "1"}


def text_for_number(cluster):
    cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["livenessProbe"]["periodSeconds"] = "5"


def missing_pod(cluster):
    del cluster["workerGroupSpecs"][0]["template"]


def test_the_cluster_of_the_job_is_the_one_that_stays(cluster):
    assert load("jobs/raycluster.yaml")["spec"] == cluster


def test_a_lost_job_goes_on_in_a_new_cluster(job, cluster, pods):
    spec = job["spec"]
    assert "--resume" in spec["entrypoint"].split()
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    claim = load("jobs/storage.yaml")
    kubernetes_validate.validate(claim, KUBERNETES, strict=True)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods.values():
        (mount,), (volume,) = container(pod)["volumeMounts"], pod["volumes"]
        assert mount["name"] == volume["name"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        for option in ("--output-dir", "--data-dir"):
            given = spec["entrypoint"].split()[spec["entrypoint"].split().index(option) + 1]
            assert Path(mount["mountPath"]) in Path(given).parents


def test_trials_run_in_groups_that_come_and_go_and_not_on_the_head(cluster, pods):
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert {group["groupName"]: group["minReplicas"] for group in cluster["workerGroupSpecs"]} == {"cpu": 0, "gpu": 0}
    limits = {name: container(pod)["resources"]["limits"] for name, pod in pods.items()}
    assert {name for name, limit in limits.items() if "nvidia.com/gpu" in limit} == {"gpu"}
    assert "nvidia.com/gpu" in [one["key"] for one in pods["gpu"]["tolerations"]]
    for pod in pods.values():
        assert container(pod)["resources"]["requests"]["memory"] == container(pod)["resources"]["limits"]["memory"]
        assert pod["restartPolicy"] == "Never"
    options = {name for option in start.params for name in option.opts}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert {f"--{name}" for name in group["rayStartParams"]} <= options


def test_no_pod_has_rights_that_it_does_not_need(job, cluster, pods):
    (user,) = re.findall(r"^USER (\d+)$", (ROOT / "jobs" / "Dockerfile").read_text(), re.MULTILINE)
    for pod in (*pods.values(), job["spec"]["submitterPodTemplate"]["spec"]):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == int(user)
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        confined(container(pod)["securityContext"])
    confined(cluster["autoscalerOptions"]["securityContext"])


def confined(context):
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_only_those_with_the_token_may_submit_and_probes_need_none(cluster, pods):
    assert cluster["authOptions"] == {"mode": "token"}
    open_to_all = {8265: inspect.getsource(http_server_head), 52365: inspect.getsource(http_server_agent)}
    for name, pod in pods.items():
        for probe in ("livenessProbe", "readinessProbe"):
            asked = container(pod)[probe]["httpGet"]
            assert asked["port"] == (8265 if name == "head" else 52365)
            assert f'"{asked["path"]}"' in open_to_all[asked["port"]]


def test_passwords_come_from_a_secret_and_the_rest_is_that_of_ray_env(pods):
    shared = load("jobs/ray-env.yaml")["env_vars"]
    for pod in pods.values():
        given = {entry["name"]: entry for entry in container(pod)["env"]}
        for name, key in (("MLFLOW_TRACKING_USERNAME", "username"), ("MLFLOW_TRACKING_PASSWORD", "password")):
            assert given[name]["valueFrom"] == {"secretKeyRef": {"name": "coldray-mlflow", "key": key}}
        assert {name: given[name]["value"] for name in shared} == shared
    for path in ("jobs/raycluster.yaml", "jobs/rayjob.yaml"):
        (told,) = re.findall(r"create secret generic (\S+) (.*)$", (ROOT / path).read_text(), re.MULTILINE)
        assert told[0] == "coldray-mlflow"
        assert re.findall(r"--from-literal=(\w+)=", told[1]) == ["username", "password"]
