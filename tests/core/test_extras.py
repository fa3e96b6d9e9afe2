"""Without the extras the core is all there, and what is missing is told with the extra's name."""

import subprocess
import sys
from pathlib import Path

import pytest

from coldray.core.extras import EXTRAS

WITHOUT = """
import sys
BLOCKED = {blocked!r}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED or name in BLOCKED:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in BLOCKED else found(name, package)
"""
"""Begins a program to which the packages are not there."""
OF_EXTRAS = {name for names in EXTRAS.values() for name in names} | {"ray.serve"}
NEEDS_AN_EXTRA = (
    "coldray.serving",
    "coldray.models.neural.text_graph",
    "coldray.cli.jobs.serve",
    "coldray.command.demo",
)


def run_without(packages, code, folder):
    program = WITHOUT.format(blocked=set(packages)) + code
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


MISSING = {
    "graph": 'coldray.fit("text_graph", films)',
    "text": 'coldray.fit("marec", films, features={"attributes": ["title"], "text": {"title": "embedding"}})',
    "stopwords": 'coldray.fit("marec", films, features={"stop_words": ["english"]})',
    "sentiment": 'coldray.fit("marec", films, features={"sentiment": ["title"]})',
}
"""What each extra is needed for."""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return the lines of a program to which no extra is there; it loads the package once, as that takes seconds."""
    code = f"""
import importlib, pkgutil
import coldray
for module in pkgutil.walk_packages(coldray.__path__, "coldray.", onerror=lambda name: None):
    if not module.name.startswith({NEEDS_AN_EXTRA!r}):
        importlib.import_module(module.name)
films = coldray.load_dataset("sample")
split = coldray.split(films)
bundle = coldray.fit("marec", split, order=1)
print(coldray.evaluate(bundle, split, "ndcg@10")["ndcg@10"] > 0.1)
print(bundle.recommend(["user-0001"], k=3, candidates="cold").height)
print(coldray.load_bundle(bundle.save("bundle")).model.name)
for code in {list(MISSING.values())!r}:
    try:
        exec(code)
        print("nothing is missing")
    except coldray.ColdrayError as error:
        print(type(error).__name__, error)
"""
    done = run_without(OF_EXTRAS, code, tmp_path_factory.mktemp("extras"))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_core_is_imported_and_runs_marec(told):
    assert told[:3] == ["True", "3", "marec"]


@pytest.mark.parametrize("extra", MISSING)
def test_what_is_missing_is_told_with_the_name_of_the_extra(extra, told):
    line = dict(zip(MISSING, told[3:], strict=True))[extra]
    assert "MissingExtraError" in line
    assert f"{EXTRAS[extra][0]}, which is not installed here" in line
    assert f"pip install 'coldray[{extra}]'" in line


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_the_service_is_refused_before_anything_is_loaded(command, tmp_path):
    program = f"from coldray.command.app import main; sys.exit(main([{command!r}]))"
    done = run_without([*EXTRAS["serve"], "ray.serve"], program, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'coldray[serve]'" in done.stderr


def test_what_is_imported_of_an_extra_is_named_in_it():
    lines = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for extra in EXTRAS:
        assert f"\n{extra} = [" in lines
