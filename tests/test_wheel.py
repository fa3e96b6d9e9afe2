"""The wheel, installed alone, does its work in an empty folder: the demonstration, a study, the service, the notebook.

What it needs is taken from the environment of the tests, so that nothing is fetched; the library is not.
"""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from contracts.notebooks import assert_notebook_runs
from contracts.service import free_port
from contracts.wheel import installed_wheel, run

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return installed_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory, environment, home):
    """Return a folder that was empty before the demonstration was run in it, and what that told."""
    empty = tmp_path_factory.mktemp("empty")
    command = (environment / "coldray", "demo", "--once", "--port", free_port())
    return empty, run(*command, cwd=empty, env=surroundings(home))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, environment):
    """Return a folder that was empty before the model was tuned on the sample and registered in it."""
    empty = tmp_path_factory.mktemp("tuned")
    said = run(
        environment / "coldray", "tune", "marec", "--set", "search.trials=2", "--set", "splits.n_splits=1", cwd=empty,
        env=surroundings(empty),
    )  # fmt: skip
    assert "alias champion" in said
    return empty


def surroundings(home):
    """Return the environment of a process with a home of its own, and nothing of this run's Python."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "MLFLOW", "RAY"))
    }
    return {**kept, "HOME": str(home)}


def test_it_is_the_wheel_that_is_found(environment, tmp_path):
    code = "import coldray; print(coldray.__file__); print(coldray.__version__)"
    where, version = run(environment / "python", "-c", code, cwd=tmp_path).split()
    assert Path(where).is_relative_to(environment.parent)
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)


def test_what_is_imported_is_declared(environment, tmp_path):
    code = "from importlib.metadata import requires; print(*requires('coldray'), sep='\\n')"
    needed = run(environment / "python", "-c", code, cwd=tmp_path).splitlines()
    declared = {canonical(re.split(r"[\s\[<>=!;]", one)[0]) for one in needed}
    owners = packages_distributions()
    imported = {name for file in (ROOT / "platform" / "coldray").rglob("*.py") for name in imports_of(file)}
    foreign = imported - set(sys.stdlib_module_names) - {"coldray"}
    assert len(foreign) > 20
    undeclared = {name for name in foreign if declared.isdisjoint(map(canonical, owners[name]))}
    assert undeclared == {"pydantic_core", "starlette", "transformers"}  # of pydantic, fastapi, sentence-transformers


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def imports_of(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def test_the_demonstration_tells_every_step_and_ends_by_itself(demonstrated):
    folder, told = demonstrated
    assert re.findall(r"\d\d:\d\d:\d\d (\d)\. ", told) == ["1", "2", "3", "4", "5", "6"]
    for command in ("datasets sample", "tune marec", "compare compare_cold", "serve --bundle"):
        assert f"coldray {command}" in told
    assert re.search(r"the list of user-\d+ it is number (\d+) of 50", told)
    assert sorted(path.name for path in folder.iterdir()) == ["runs"]


def test_a_study_of_the_package_ran_to_its_report(demonstrated):
    (page,) = demonstrated[0].glob("runs/marec-sample-*/report.html")
    assert "MARec" in page.read_text(encoding="utf-8")
    assert (page.parent / "bundle" / "manifest.json").is_file()


def test_the_service_of_the_champion_answers_and_ends_when_it_is_interrupted(tuned, environment):
    port = free_port()
    command = [environment / "coldray", "serve", "--port", str(port)]
    with (tuned / "service.txt").open("w") as said:
        process = subprocess.Popen(
            list(map(str, command)), cwd=tuned, stdout=said, stderr=subprocess.STDOUT, env=surroundings(tuned)
        )
    try:
        answer = asked(f"http://127.0.0.1:{port}/v1/recommend", {"user_id": "user-0001", "k": 3}, process)
        assert [place["rank"] for place in answer["items"]] == [1, 2, 3]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) in (0, 130)
    finally:
        process.kill()
        process.wait()
        print((tuned / "service.txt").read_text())


def asked(url, body, process):
    """Return the answer to a request, as soon as somebody answers."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    for _ in range(1200):
        assert process.poll() is None
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return json.load(response)
        except OSError:
            time.sleep(0.1)
    raise AssertionError("The service has not answered.")


def test_the_notebook_runs_to_its_end_and_has_its_outputs_with_it(environment, tmp_path):
    assert_notebook_runs(ROOT / "docs" / "quickstart.ipynb", tmp_path, environment / "python")
