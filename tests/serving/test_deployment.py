"""The files for clusters agree with each other, with the pinned Ray and with what the library takes."""

import inspect
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from ray.dashboard.modules.reporter import healthz_agent, reporter_head
from ray.serve.schema import ServeDeploySchema

import coldray
from coldray.cli.jobs.serve import _FAST_SERVE
from coldray.serving.api.app import _api
from coldray.serving.api.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
FILE, MANIFEST, DOCKERFILE = (ROOT / "serve" / name for name in ("recommend.yaml", "rayservice.yaml", "Dockerfile"))
DIFFERENT = {"tracking_uri", "store", "replicas", "max_replicas", "target_ongoing"}
"""Settings that depend on where the service runs."""
PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "serve": 8000}


@pytest.fixture(scope="module")
def manifest():
    return yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cluster(manifest):
    return manifest["spec"]["rayClusterConfig"]


@pytest.fixture(scope="module")
def pods(cluster):
    (workers,) = cluster["workerGroupSpecs"]
    return {"head": cluster["headGroupSpec"]["template"]["spec"], "worker": workers["template"]["spec"]}


def pinned(package):
    (version,) = re.findall(rf"^{package}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return version


def container(pod):
    (only,) = pod["containers"]
    return only


def instructions():
    """Return the lines of the Dockerfile, continued ones joined, as name and words."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def test_the_manifest_deploys_what_the_config_file_does_but_for_where_it_runs(manifest):
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayService")
    ours, theirs = yaml.safe_load(manifest["spec"]["serveConfigV2"]), yaml.safe_load(FILE.read_text(encoding="utf-8"))
    ServeDeploySchema.model_validate(ours)
    arguments = [config["applications"][0].pop("args") for config in (ours, theirs)]
    assert ours == theirs
    different = {name for name in arguments[0] | arguments[1] if arguments[0].get(name) != arguments[1].get(name)}
    assert different == DIFFERENT
    for given in arguments:
        settings = ServiceSettings.model_validate(given)
        settings.require_access()
        assert settings.max_ongoing > 5
    module, _, name = ours["applications"][0]["import_path"].partition(":")
    assert callable(getattr(import_module(module), name))


def test_every_setting_in_the_comments_of_the_config_file_exists():
    named = re.findall(r"^      # (\w+): ", FILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {"max_replicas", "open"} <= set(named) <= set(ServiceSettings.model_fields)


def test_the_image_and_the_manifest_have_the_pinned_ray(cluster, pods):
    assert cluster["rayVersion"] == pinned("ray")
    tag = f"{coldray.__version__}-ray{pinned('ray')}"
    assert {container(pod)["image"] for pod in pods.values()} == {f"coldray:{tag}"}
    for text in (MANIFEST.read_text(encoding="utf-8"), DOCKERFILE.read_text(encoding="utf-8")):
        assert set(re.findall(r"coldray:([\w.-]+)", text)) == {tag}
    installs = [words for name, words in instructions() if name == "RUN" and "pip install" in words]
    assert installs
    assert all("--constraint constraints.txt" in words or "--no-deps" in words for words in installs)


def test_ray_is_started_in_its_fast_mode_everywhere(pods):
    for pod in pods.values():
        given = {entry["name"]: entry.get("value") for entry in container(pod)["env"]}
        assert {name: given[name] for name in _FAST_SERVE} == _FAST_SERVE
    told = re.findall(r"^#   (\w+)=(.+)$", FILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: shlex.split(value)[0] for name, value in told} == _FAST_SERVE


def test_keys_and_passwords_come_from_secrets(manifest, pods):
    arguments = yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"][0]["args"]
    kind, _, variable = arguments["store"].partition(":")
    assert kind == "env"
    for pod in pods.values():
        (store,) = (entry for entry in container(pod)["env"] if entry["name"] == variable)
        assert store["valueFrom"]["secretKeyRef"] == {"name": "coldray-store", "key": "url"}
        (mount,), (volume,) = container(pod)["volumeMounts"], pod["volumes"]
        assert mount["name"] == volume["name"]
        assert Path(arguments["keys_file"]).parent == Path(mount["mountPath"])
        assert volume["secret"]["secretName"] == "coldray-keys"
    told = re.findall(r"create secret generic (\S+) --from-\w+=(\w+)=", MANIFEST.read_text(encoding="utf-8"))
    assert set(told) == {("coldray-keys", Path(arguments["keys_file"]).name), ("coldray-store", "url")}


def test_probes_ask_for_what_is_there(pods):
    of_ray = {8265: inspect.getsource(reporter_head), 52365: inspect.getsource(healthz_agent)}
    for name, pod in pods.items():
        for probe in ("livenessProbe", "readinessProbe"):
            asked = container(pod)[probe]["httpGet"]
            if asked["port"] == 8000:
                assert _api.url_path_for("ready") == asked["path"]
            else:
                assert f'@routes.get("{asked["path"]}")' in of_ray[asked["port"]]
        assert container(pod)["livenessProbe"]["httpGet"]["port"] != 8000, name
    assert container(pods["worker"])["readinessProbe"]["httpGet"]["path"] == "/ready"
    for pod in pods.values():
        for port in container(pod)["ports"]:
            assert PORTS[port["name"]] == port["containerPort"]


def test_the_most_replicas_fit_into_the_most_pods(manifest, cluster):
    arguments = yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"][0]["args"]
    (workers,) = cluster["workerGroupSpecs"]
    cpus = int(container(workers["template"]["spec"])["resources"]["limits"]["cpu"])
    assert workers["maxReplicas"] * cpus >= arguments["max_replicas"]
    assert workers["minReplicas"] * cpus >= arguments["replicas"] >= 2
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_image_takes_what_is_there_and_runs_without_rights(pods):
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split()
    sources = [source for name, words in instructions() if name == "COPY" for source in words.split()[:-1]]
    assert {"constraints.txt", "platform"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
    (user,) = (words for name, words in instructions() if name == "USER")
    assert int(user) > 0
    for pod in pods.values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == int(user)
    assert any(f"--uid {user} " in words for name, words in instructions() if name == "RUN")
    project = (ROOT / "pyproject.toml").read_text()
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE.read_text())
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = ", project, re.MULTILINE)
