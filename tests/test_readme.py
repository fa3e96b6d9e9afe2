"""What README, documentation and the files around the library promise of names: models, studies, figures, versions."""

import os
import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

import coldray
from coldray.command.app import application
from coldray.experiments.inspection.config import InspectionConfig
from coldray.experiments.space import FailureConfig, SearchConfig, SelectionConfig, load_study
from coldray.experiments.split_config import SplitConfig
from coldray.features.builder import FeatureConfig
from coldray.models.registry import MODELS, model_type

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIGURES = (ROOT / "docs/results/figures.md").read_text(encoding="utf-8")
PAGES = [path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "generated"} & set(path.parts)]
TEXTS = "\n".join([README, *(path.read_text(encoding="utf-8") for path in PAGES)])
JOBS = sorted((ROOT / "jobs").glob("*.py"))


def rows_of_table(header, page=README):
    """Return the cells of each row of the table with this header, as text."""
    lines = page[page.index(header) :].splitlines()[2:]
    rows = lines[: next(place for place, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_table_of_models_has_them_all_and_says_which_score_by_attributes():
    groups = [re.findall(r"`(\w+)`", names) for names, _ in rows_of_table("| model | what it is |")]
    assert sorted(name for group in groups for name in group) == sorted(MODELS)
    *by_attributes, people, clicks, ratings = groups
    assert [name for name in MODELS if model_type(name).reads_users] == people
    assert all(model_type(name).scores_cold_items for group in by_attributes for name in group)
    assert [name for name in people if model_type(name).scores_cold_items] == ["two_tower_users"], "its cell says so"
    assert not any(model_type(name).scores_cold_items for name in (*clicks, *ratings))
    assert [name for name in MODELS if model_type(name).predicts_ratings] == ratings


@pytest.mark.parametrize("name", MODELS)
def test_each_model_has_a_study(name):
    file = {"item_knn": "knn", "user_knn": "knn"}.get(name, name)
    study = load_study(ROOT / "tune_spaces" / f"{file}.yaml", {"model": name} if file == "knn" else {})
    assert study.model == name


def test_the_files_it_names_are_there():
    named = set(re.findall(r"(?<![\w/])(?:jobs|tune_spaces|serve|mlflow)/\w[\w.-]*\.(?:py|yaml|png)", TEXTS))
    assert len(named) > 10
    assert [name for name in sorted(named - {"tune_spaces/NAME.yaml"}) if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_job_is_thin_and_can_be_run(job):
    lines = job.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env python"
    assert len(lines) <= 40
    assert os.access(job, os.X_OK)
    for folder, name in re.findall(r'"(tune_spaces)" / "([\w.]+)"', "\n".join(lines)):
        assert (ROOT / folder / name).is_file()


def test_each_figure_of_the_table_is_measured():
    sources = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "benchmarks").glob("*_figures.py")
    )
    measured = set(re.findall(r'figure\(\s*"(\w+)"', sources))
    named = [cells[0].strip("`") for cells in rows_of_table("| figure | what | measured | bar |", FIGURES)]
    assert len(named) > 30
    assert [name for name in named if name not in measured] == []


def test_every_dependency_has_its_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()}
    names = [re.match(r"[\w.-]+", requirement)[0].lower() for requirement in wanted]
    assert [name for name in names if name not in pinned | {project["name"]}] == []


def test_it_is_short():
    assert len(README.encode()) <= 10_000


def test_its_lines_fit_a_screen():
    """Tables, pictures and what a console shows cannot be broken."""
    prose = re.sub(r"^```.*?^```$|^\|.*?$|^!\[.*?$", "", README, flags=re.DOTALL | re.MULTILINE)
    assert [line for line in prose.splitlines() if len(line) > 130] == []


def is_known(name):
    """Tell whether a dotted name is a module of the library, or one and what its text has."""
    path, *rest = ROOT / "platform", *name.split(".")
    while rest and (path / rest[0]).is_dir():
        path /= rest.pop(0)
    if rest and (file := path / f"{rest[0]}.py").is_file():
        path = file
        rest.pop(0)
    text = "" if path.is_dir() else path.read_text(encoding="utf-8")
    return all(re.search(rf"\b{part}\b", text) for part in rest)


def test_modules_that_it_and_docstrings_name_are_there():
    found = set(re.findall(r"`(coldray(?:\.\w+)+)`", TEXTS))
    for path in (ROOT / "platform").rglob("*.py"):
        found.update(re.findall(r"`~?(coldray(?:\.\w+)+)`", path.read_text(encoding="utf-8")))
    for path in (ROOT / "serve").glob("*.yaml"):
        found.update(re.findall(r"(?<![\w/])coldray\.[\w.]*\w", path.read_text(encoding="utf-8")))
    assert len(found) > 100
    tracking = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "platform/coldray/tracking").glob("*.py"))
    tags = {name for name in found if f'"{name}"' in tracking}
    offered = {f"coldray.{name}" for name in (*coldray.__all__, "models", "sources", "metrics")}  # or an entry point
    assert [name for name in sorted(found - tags - offered) if not is_known(name)] == []


def test_options_and_fields_of_a_study_that_it_names_exist():
    others = {"--help", "--head", "--runtime-env", "--backend-store-uri"}  # of every job, Ray and MLflow
    others |= {"--detach", "--env-file", "--file", "--no-deps", "--wait"}  # of docker compose and pip
    others |= {"--install-completion"}  # of every command of typer
    options = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", TEXTS)) - others
    known = {
        name
        for one in get_command(application()).commands.values()
        for part in one.params
        for name in (*part.opts, *part.secondary_opts)
    }
    jobs = {"--study", "--comparison", "--model"}  # the arguments of commands
    assert sorted(options - known - jobs) == []
    sections = {"features": FeatureConfig, "inspection": InspectionConfig, "failures": FailureConfig}
    sections |= {"splits": SplitConfig, "search": SearchConfig, "selection": SelectionConfig}
    fields = re.findall(rf"`({'|'.join(sections)})\.(\w+)", TEXTS)
    assert len(fields) > 5
    assert [pair for pair in fields if pair[1] not in sections[pair[0]].model_fields] == []


def test_the_python_example_prints_what_it_says(capsys):
    example, printed = re.search(
        r"## In Python\n\n```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL
    ).groups()
    exec(compile(example, "README.md", "exec"), {})
    numbers = re.compile(r"\d+\.\d+")
    output = capsys.readouterr().out
    assert numbers.sub("…", output) == numbers.sub("…", printed)
    values = [[float(number) for number in numbers.findall(text)] for text in (output, printed)]
    assert values[0] == pytest.approx(values[1], abs=0.002)  # the last digits are those of a machine's BLAS
