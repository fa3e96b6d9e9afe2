"""The pages of models and concepts: each model has one, with its study, its configuration, its source and its costs."""

import csv
import re
from pathlib import Path

import pytest
import yaml

from coldray.core.study_files import shipped
from coldray.experiments.space import StudyConfig
from coldray.models.registry import MODELS, model_type

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SECTIONS = ("Equations", "What it needs", "When to use it, and when not", "How to run it", "Cost", "On real data")


def page_of(name):
    return (DOCS / "models" / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MODELS)
def test_each_model_has_a_page_with_its_study_configuration_and_source(name):
    page, config = page_of(name), model_type(name).config_type
    assert page.startswith(f"# `{name}`: ")
    studies = re.findall(r"^\$ coldray tune (\w+)", page, re.MULTILINE)
    assert {"item_knn": "knn", "user_knn": "knn"}.get(name, name) in studies
    assert set(studies) <= set(shipped("study"))
    assert f".. autopydantic_model:: {config.__module__}.{config.__qualname__}\n" in page
    source = page.partition("\n## Source\n")[2]
    assert re.search(r"\*[^*]{10,}\*", source)  # a title
    assert re.search(r"\b(19|20)\d\d\b|\d{4}\.\d{5}", source)  # a year
    assert all(f"\n## {section}\n" in page for section in SECTIONS)


@pytest.mark.parametrize("name", MODELS)
def test_each_page_begins_with_what_the_code_and_the_measurement_know(name):
    assert f"```{{include}} generated/{name}_facts.md\n```" in page_of(name)
    assert f"```{{include}} generated/{name}_space.md\n```" in page_of(name)


def test_values_that_pages_give_to_parameters_are_valid():
    given = [(name, *pair) for name in MODELS for pair in re.findall(r"`([a-z_0-9]+): ([\w.]+)`", page_of(name))]
    of_models = [one for one in given if one[1] not in StudyConfig.model_fields]
    assert len(of_models) > 10
    for name, parameter, value in of_models:
        config = model_type(name).config_type.model_validate({parameter: yaml.safe_load(value)})
        assert getattr(config, parameter) == yaml.safe_load(value)


def test_the_overview_lists_every_model_and_says_which_rank_new_items():
    overview = (DOCS / "models" / "index.md").read_text(encoding="utf-8")
    table = overview[overview.index("| model | what it is") : overview.index("## Where to begin")]
    said = {
        name: row.rstrip(" |").endswith("yes") for row in table.splitlines() for name in re.findall(r"\[`(\w+)`\]", row)
    }
    assert said == {name: model_type(name).scores_cold_items for name in MODELS}


def test_what_a_fit_takes_is_measured_of_every_model():
    with (DOCS / "models" / "costs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["model"] for row in rows) == sorted(MODELS)
    assert all(float(row["CPU seconds of a fit"]) > 0 and float(row["CPU ms a list"]) > 0 for row in rows)


def test_the_tests_that_hold_the_promises_exist():
    promises = (DOCS / "concepts" / "promises.md").read_text(encoding="utf-8")
    numbered = re.findall(r"^\d+\. .*?(?=^\d+\. |\Z)", promises, re.DOTALL | re.MULTILINE)
    assert len(numbered) == 16
    for promise in numbered:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise)
        assert named, promise
        for file, test in named:
            text = (ROOT / file).read_text(encoding="utf-8")
            assert re.search(rf"^ *def {test}\(", text, re.MULTILINE), test


def test_the_figures_that_the_promises_name_are_measured():
    promises = (DOCS / "concepts" / "promises.md").read_text(encoding="utf-8")
    figures = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/benchmarks").glob("*_figures.py"))
    named = re.findall(r"(?<!::)`(\w+_\w+)`", promises)
    assert len(named) > 5
    assert [name for name in named if f'"{name}"' not in figures] == []
