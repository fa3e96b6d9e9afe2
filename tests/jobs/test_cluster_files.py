"""The files for clusters agree with each other, with the pinned versions, and with the jobs that they start."""

import copy
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

import coldray

ROOT = Path(__file__).parents[2]
FILES = sorted(
    [*(ROOT / "jobs").glob("*.yaml"), *(ROOT / "jobs").glob("Dockerfile*"), *(ROOT / "mlflow").glob("*.yaml")]
)
FILES += [ROOT / "mlflow" / "example.env"]
LAUNCHER = ROOT / "jobs" / "ray-cluster.yaml"


@pytest.fixture(scope="module")
def launcher():
    return yaml.safe_load(LAUNCHER.read_text(encoding="utf-8"))


def pinned(package):
    (version,) = re.findall(rf"^{package}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return version


def test_the_launcher_takes_its_file(launcher):
    validate_config(prepare_config(copy.deepcopy(launcher)))
    for spoil in (
        lambda file: file.update(max_worker=3),
        lambda file: file["available_node_types"]["gpu"].pop("resources"),
        lambda file: file["docker"].update(images="a"),
        lambda file: file.update(idle_timeout_minutes="ten"),
    ):
        spoilt = copy.deepcopy(launcher)
        spoil(spoilt)
        with pytest.raises(jsonschema.ValidationError):
            validate_config(prepare_config(spoilt))


def test_machines_come_and_go_with_the_trials_and_none_run_on_the_head(launcher):
    types = launcher["available_node_types"]
    assert types[launcher["head_node_type"]]["resources"] == {"CPU": 0}
    assert {name for name, kind in types.items() if "GPU" in kind["resources"]} == {"gpu"}
    workers = [kind for name, kind in types.items() if name != launcher["head_node_type"]]
    assert all(kind["min_workers"] == 0 < kind["max_workers"] <= launcher["max_workers"] for kind in workers)
    assert launcher["idle_timeout_minutes"] > 0
    assert types["gpu"]["docker"]["worker_image"] == f"{launcher['docker']['image'].removesuffix('-cpu')}-gpu"


def test_a_machine_gets_what_it_installs(launcher):
    home = "/home/ray/coldray/"
    sent = {path.removeprefix(home): here for path, here in launcher["file_mounts"].items() if path.startswith(home)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert all((ROOT / here).exists() for here in sent.values())
    needed = {"pyproject.toml", "constraints.txt", project["project"]["readme"], *project["project"]["license-files"]}
    assert set(sent) == needed | set(project["tool"]["setuptools"]["packages"]["find"]["where"])
    for command in (*launcher["setup_commands"], *launcher["available_node_types"]["gpu"]["worker_setup_commands"]):
        assert command.startswith(f"cd ~/{Path(home).name} && pip install --constraint constraints.txt ")
        (extra,) = re.findall(r"'\.\[(\w+)\]'", command)
        assert extra in project["project"]["optional-dependencies"]


def test_ray_takes_the_options_that_it_is_started_with(launcher):
    commands = launcher["head_start_ray_commands"] + launcher["worker_start_ray_commands"]
    starts = [shlex.split(command) for command in commands if command.startswith("ray start")]
    contexts = [start.make_context("start", words[2:]).params for words in starts]
    assert [context["head"] for context in contexts] == [True, False]
    assert contexts[0]["dashboard_host"] == "127.0.0.1"  # reached by `ray dashboard`, through SSH
    assert contexts[1]["address"] == f"$RAY_HEAD_IP:{contexts[0]['port']}"
    assert "--env RAY_AUTH_MODE=token" in launcher["docker"]["run_options"]


def test_all_images_have_the_pinned_versions():
    ray, python = pinned("ray"), "py311"
    assert "resolved on Python 3.11 " in (ROOT / "constraints.txt").read_text()
    texts = {path: path.read_text(encoding="utf-8") for path in FILES}
    found = {tag for text in texts.values() for tag in re.findall(r"rayproject/ray:(\S+)", text)}
    assert found == {f"{ray}-{python}-cpu", f"{ray}-{python}-gpu"}
    tag = f"{coldray.__version__}-ray{ray}"
    for text in texts.values():
        assert set(re.findall(r"\bcoldray(?:-jobs)?:([\w.-]+)", text)) <= {tag}
    for name in ("raycluster.yaml", "rayjob.yaml"):
        assert re.findall(r"rayVersion: \"(.+?)\"", texts[ROOT / "jobs" / name]) == [ray]
        assert set(re.findall(r"image: (\S+)", texts[ROOT / "jobs" / name])) == {f"coldray-jobs:{tag}"}
    images = re.findall(r"ghcr.io/mlflow/mlflow:(\S+)", texts[ROOT / "mlflow" / "compose.yaml"])
    assert images == [f"v{pinned('mlflow')}-full"]


def test_the_image_of_the_jobs_has_what_it_copies():
    lines = (ROOT / "jobs" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    sources = [line.split()[1] for line in lines if line.startswith("COPY")]
    sent = (ROOT / "jobs" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert sources == ["jobs"]
    assert all((ROOT / source).is_dir() and f"!{source}" in sent for source in sources)
    (folder,) = (line.split()[1] for line in lines if line.startswith("WORKDIR") and "srv" in line)
    job = yaml.safe_load((ROOT / "jobs" / "rayjob.yaml").read_text(encoding="utf-8"))
    assert f"python {folder}/jobs/tune_marec.py " in job["spec"]["entrypoint"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(path):
    pattern = r"(?<![\w.-])(?:jobs|serve|mlflow|tests|tune_spaces|platform)/[\w/-]*\w(?:\.\w+)?"
    named = {name for name in re.findall(pattern, path.read_text(encoding="utf-8")) if "mlflow/mlflow" not in name}
    missing = {name for name in named if not (ROOT / name).exists()} - {"mlflow/auth.ini", "mlflow/artifacts"}
    assert missing == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_holds_a_secret(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|-----BEGIN|://[^\s/@]*:[^\s/@]*@", text)
    assert not re.search(r"\b[0-9a-fA-F]{32,}\b|\b(?=\w*\d)(?=\w*[a-z])(?=\w*[A-Z])\w{32,}\b", text)
    plain = re.sub(r"#.*", "", text)
    for name, value in re.findall(r"(?i)(?<![\w{])(\w*(?:password|secret|token)\w*)[=:] *([^\s{}\[\],]+)", plain):
        assert re.match(r"[$*&]|~/|required$", value), f"{name} has the value {value}"


class Parsed(BaseException):
    """Ends a job once its options are known to be right."""


def commands():
    """Return the jobs that the files start, or say how to, with their options."""
    found = set()
    for path in FILES:
        text = re.sub(r"\n +(?=--)", " ", path.read_text(encoding="utf-8"))
        found.update(re.findall(r"(jobs/\w+\.py)((?: +--?[\w-]+(?: +(?!-)[\w./:]+)?)*)", text))
    return sorted(found)


@pytest.mark.parametrize(("job", "options"), commands())
def test_every_job_that_is_started_takes_its_options(job, options, monkeypatch):
    def stop(*_):
        raise Parsed

    monkeypatch.setattr("coldray.command.app._work", stop)
    monkeypatch.setattr(sys, "argv", [job, *shlex.split(options)])
    with pytest.raises(Parsed):
        runpy.run_path(str(ROOT / job), run_name="__main__")


def test_the_commands_that_are_tried_are_those_with_options():
    assert {job for job, _ in commands()} == {"jobs/tune_marec.py"}
    given = [set(options.split()) for _, options in commands()]
    assert {"--resume", "--output-dir", "/shared/runs", "--no-download"} <= set.union(*given)
