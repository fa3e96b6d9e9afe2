"""The pages of the documentation: links, where they are listed, their length, and the code that they show."""

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from coldray.command.app import application
from coldray.core import errors
from coldray.experiments.comparison.config import load_comparison
from coldray.experiments.space import load_study
from coldray.models.registry import MODELS
from contracts.notebooks import assert_notebook_runs

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"_build", "generated", "examples"} & set(path.parts))
NAMES = [path.relative_to(DOCS).as_posix() for path in PAGES]
TARGETS = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
FENCE = re.compile(r"^(`{3,}|:{3,})(.*?)\n(.*?)^\1\s*?$", re.DOTALL | re.MULTILINE)
MADE_FROM_CODE = re.compile(r"^```\{(?:eval-rst|include)\}", re.MULTILINE)


@cache
def text_of(path):
    return path.read_text(encoding="utf-8")


def prose_of(path):
    """Return the text of a page without what is shown as code."""
    return FENCE.sub("", text_of(path))


@cache
def anchors_of(path):
    """Return the anchors that MyST gives the headings of a page: as GitHub does."""
    titles = re.findall(r"^#{1,3} (.*)$", prose_of(path), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    named = re.findall(r"^\(([\w-]+)\)=$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in plain} | set(named)


def links_of(path):
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]+`", "", prose_of(path)))


@cache
def listed():
    """Return the pages that the tables of contents list, by their names."""
    found = {"index.md"}
    for path in PAGES:
        for _, kind, body in FENCE.findall(text_of(path)):
            if kind.strip() == "{toctree}":
                lines = [line.strip() for line in body.splitlines() if line.strip() and not line.startswith(":")]
                for line in lines:
                    name = re.sub(r"^.*<(.*)>$", r"\1", line)
                    found.update(one.relative_to(DOCS).as_posix() for one in path.parent.glob(f"{name}.*"))
    return found


@pytest.mark.parametrize("name", ["README.md", *NAMES])
def test_its_links_lead_somewhere(name):
    path = ROOT / name if name == "README.md" else DOCS / name
    for link in links_of(path):
        place, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), link
        if anchor and target.suffix == ".md" and "reference/" not in place:
            assert anchor in anchors_of(target), link


def test_the_picture_of_the_architecture_is_that_of_the_imports(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    architecture = importlib.import_module("architecture")
    assert architecture.PICTURE.read_text(encoding="utf-8") == architecture.picture(), "run docs/architecture.py"


@pytest.mark.parametrize("name", [name for name, kind in vars(errors).items() if isinstance(kind, type)])
def test_an_error_says_the_way_out(name):
    """Those that others are derived from speak for none of them."""
    kind = getattr(errors, name)
    assert kind.__subclasses__() or len((kind.__doc__ or "").split("\n\n")) > 1


@pytest.mark.parametrize("file", sorted((ROOT / ".github/workflows").glob("*.yaml")), ids=lambda file: file.name)
def test_a_workflow_is_one_and_runs_what_there_is(file):
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", file]
    checked = subprocess.run(check, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    used = re.findall(r"\bmake ([\w-]+)", file.read_text(encoding="utf-8"))
    assert used
    assert [target for target in used if target not in TARGETS] == []


def test_every_page_is_listed():
    assert [name for name in NAMES if name not in listed()] == []


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("index.md")])
def test_a_page_says_something(name):
    assert len(prose_of(DOCS / name)) >= 1500 or MADE_FROM_CODE.search(text_of(DOCS / name))


@pytest.mark.parametrize("name", NAMES)
def test_its_lines_fit_a_screen(name):
    """Tables, links and pictures cannot be broken."""
    lines = [line for line in prose_of(DOCS / name).splitlines() if not re.search(r"^\||\]\(", line)]
    assert [line for line in lines if len(line) > 120] == []


def settings_of(path):
    """Return the front matter of a page."""
    found = re.match(r"---\n(.*?)\n---\n", text_of(path), re.DOTALL)
    return yaml.safe_load(found[1]) if found else {}


def blocks_to_run(path):
    """Return the Python blocks of a page in order, each with the text that is said to be printed, or None."""
    fences = [(kind.strip(), body) for _, kind, body in FENCE.findall(text_of(path))]
    following = [*fences[1:], ("", "")]
    return [
        (body, after[1] if after[0] == "text" else None)
        for (kind, body), after in zip(fences, following, strict=True)
        if kind == "python"
    ]


@pytest.mark.parametrize(
    "name",
    [name for name, path in zip(NAMES, PAGES, strict=True) if settings_of(path).get("run")],
)
def test_its_python_runs_and_prints_what_it_says(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    space, blocks = {"__name__": "__main__"}, blocks_to_run(DOCS / name)
    assert blocks
    for block, printed in blocks:
        exec(compile(block, name, "exec"), space)
        said = capsys.readouterr().out
        if printed is not None:
            assert_alike(said, printed)


def assert_alike(said, printed):
    """Compare two texts but for the last digits of numbers, which are those of a machine's BLAS."""
    numbers = re.compile(r"\d+\.\d+")
    assert numbers.sub("…", said).split() == numbers.sub("…", printed).split()
    values = [[float(number) for number in numbers.findall(text)] for text in (said, printed)]
    assert values[0] == pytest.approx(values[1], abs=0.002)


def test_the_notebook_of_cold_starts_runs_to_its_end_and_has_its_outputs_with_it(tmp_path):
    """The other one is run by tests/test_wheel.py."""
    assert {path.name for path in DOCS.glob("*.ipynb")} == {"quickstart.ipynb", "cold_start.ipynb"}
    assert_notebook_runs(DOCS / "cold_start.ipynb", tmp_path, sys.executable)


def commands_of(path):
    """Return the commands that console blocks of a page show, each in one line."""
    for _, kind, body in FENCE.findall(text_of(path)):
        if kind.strip() == "console":
            for line in re.sub(r"\\\n\s*", "", body).splitlines():
                if line.startswith("$ "):
                    yield line[2:].partition("  #")[0]


@pytest.mark.parametrize("name", ["README.md", *NAMES])
def test_the_commands_it_shows_exist(name):
    for command in commands_of(ROOT / name if name == "README.md" else DOCS / name):
        words = command.split()
        if words[0] == "make":
            assert words[1] in TARGETS, command
        for job in re.findall(r"\bjobs/\w+\.(?:py|yaml)\b", command):
            assert (ROOT / job).is_file(), command
        for part in re.split(r" && | \| | > ", command):
            given = part.split()
            if given[0] == "coldray" and not given[1].startswith("-"):
                assert given[1] in options_of_commands(), command
                options = {word.partition("=")[0] for word in given if word.startswith("--")}
                assert options <= options_of_commands()[given[1]], command


@cache
def options_of_commands():
    return {
        name: {"--help", *(name for option in command.params for name in (*option.opts, *option.secondary_opts))}
        for name, command in get_command(application()).commands.items()
    }


def settings_shown(word):
    """Return the YAML that pages show and that has a field, each with the name of its page."""
    shown = [(name, body) for name in NAMES for _, kind, body in FENCE.findall(text_of(DOCS / name)) if kind == "yaml"]
    return [pytest.param(body, id=name) for name, body in shown if word in (yaml.safe_load(body) or {})]


@pytest.mark.parametrize("text", settings_shown("entries"))
def test_a_comparison_that_is_shown_can_be_run(tmp_path, text):
    folder = shutil.copytree(ROOT / "tune_spaces", tmp_path / "studies")
    (folder / "shown.yaml").write_text(text, encoding="utf-8")
    assert len(load_comparison(folder / "shown.yaml").entries) > 1


@pytest.mark.parametrize("text", settings_shown("space"))
def test_a_study_that_is_shown_can_be_run(tmp_path, monkeypatch, text):
    """Those that packages of others tune too: the package of the examples is there."""
    monkeypatch.syspath_prepend(DOCS / "examples" / "more-recommenders")
    project = tomllib.loads((DOCS / "examples/more-recommenders/pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = project["entry-points"]["coldray.models"]
    monkeypatch.setattr(
        MODELS, "_added", {name: [EntryPoint(name, at, "coldray.models")] for name, at in points.items()}
    )
    (tmp_path / "shown.yaml").write_text(text, encoding="utf-8")
    assert load_study(tmp_path / "shown.yaml").searched


def test_what_a_page_shows_is_found(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two` (three)\n\n```console\n$ make \\\n    that  # here\nsaid\n```\n[a](b.md)\n`[c](d.md)`\n"
    )
    assert anchors_of(page) == {"one-two-three"}
    assert list(commands_of(page)) == ["make that"]
    assert links_of(page) == ["b.md"]
