"""Without the extras the core is all there, and what is missing is told with the extra's name."""

import subprocess
import sys
from pathlib import Path

import pytest

from coldray.core.extras import EXTRAS

EMBEDDED = 'EMBEDDED = {"attributes": ["title"], "text": {"title": "embedding"}}'
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


def test_the_core_is_imported_and_runs_marec(tmp_path):
    code = f"""
import importlib, pkgutil
import coldray
for module in pkgutil.walk_packages(coldray.__path__, "coldray.", onerror=lambda name: None):
    if not module.name.startswith({NEEDS_AN_EXTRA!r}):
        importlib.import_module(module.name)
split = coldray.split(coldray.load_dataset("sample"))
bundle = coldray.fit("marec", split, order=1)
print(coldray.evaluate(bundle, split, "ndcg@10")["ndcg@10"] > 0.1)
print(bundle.recommend(["user-0001"], k=3, candidates="cold").height)
print(coldray.load_bundle(bundle.save("bundle")).model.name)
"""
    done = run_without(OF_EXTRAS, code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True", "3", "marec"]


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ("graph", 'coldray.fit("text_graph", coldray.load_dataset("sample"))'),
        ("text", 'coldray.fit("marec", coldray.load_dataset("sample"), features=EMBEDDED)'),
        ("stopwords", 'coldray.fit("marec", coldray.load_dataset("sample"), features={"stop_words": ["english"]})'),
        ("sentiment", 'coldray.fit("marec", coldray.load_dataset("sample"), features={"sentiment": ["title"]})'),
    ],
)
def test_what_is_missing_is_told_with_the_name_of_the_extra(extra, code, tmp_path):
    program = f"""
import coldray
{EMBEDDED}
try:
    {code}
except coldray.ColdrayError as error:
    print(type(error).__name__, error)
"""
    done = run_without(EXTRAS[extra], program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "MissingExtraError" in done.stdout
    assert f"{EXTRAS[extra][0]}, which is not installed here" in done.stdout
    assert f"pip install 'coldray[{extra}]'" in done.stdout


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
