"""The top-level folders keep out of the way of the modules they share a name with."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [
    "core",
    "errors",
    "data",
    "features",
    "evaluation",
    "training",
    "models",
    "bundle",
    "experiments",
    "tracking",
    "serving",
    "reports",
    "cli",
    "front",
    "command",
    "__main__",
    "__init__",
]


@pytest.mark.parametrize("folder", ["platform", "mlflow", "serve", "jobs", "tune_spaces", "tests"])
def test_top_level_folders_are_not_packages(folder):
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder / "__init__.py").exists()


def test_platform_and_mlflow_are_the_real_modules_from_the_repository_root():
    code = "import platform, mlflow; print(platform.system(), platform.__file__, mlflow.__file__, mlflow.__version__)"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert str(ROOT / "platform") not in printed
    assert str(ROOT / "mlflow") not in printed


@pytest.mark.parametrize("file", ["Makefile", "docs/extend/layout.md", "docs/guides/cluster.md"])
def test_files_that_commands_name_are_there(file):
    """A test that has moved would be left out, or end the command, on a day when it is needed."""
    named = re.findall(r"(?<![\w/.-])(?:tests|jobs)/[\w/]+\.py", (ROOT / file).read_text(encoding="utf-8"))
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_target_of_make_has_one_rule():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = re.findall(r"^([\w-]+):", text, re.MULTILINE)
    assert sorted(rules) == sorted(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def test_a_stage_imports_only_from_the_stages_before_it():
    package = ROOT / "platform" / "coldray"
    departures = []
    for path in package.rglob("*.py"):
        stage = path.relative_to(package).parts[0].removesuffix(".py")
        for module in imported_modules(path):
            if not module.startswith("coldray."):
                continue
            target = module.split(".")[1]
            if ORDER.index(target) > ORDER.index(stage):
                departures.append(f"{path.relative_to(ROOT)} imports {module}")
    assert departures == []


def test_no_folder_holds_more_modules_than_can_be_taken_in_at_a_glance():
    folders = [folder for folder in (ROOT / "platform" / "coldray").rglob("*") if folder.is_dir()]
    counts = {
        folder.name: len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) for folder in folders
    }
    assert {name: count for name, count in counts.items() if count > 15} == {}
