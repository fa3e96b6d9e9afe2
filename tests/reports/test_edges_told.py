"""A choice on the edge of its range is told wherever a study's result is read."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from coldray.experiments.categories import CategoryResults
from coldray.experiments.edges import Edge
from coldray.reports.ablation.console import console_ablation
from coldray.reports.ablation.report import ablation_page
from coldray.reports.categories.report import category_page, console_categories
from coldray.reports.comparison.console import console_comparison
from coldray.reports.comparison.report import comparison_page
from coldray.reports.console import console_summary
from coldray.reports.report import report_page

EDGE = Edge("lambda_1", 3000.0, "high", "choice [300, 1000, 3000]")


def with_edge(result, part):
    """Return a result of that kind, on the edge in its first part."""
    if part == "study":
        return replace(result, edges=(EDGE,))
    if part == "comparison":
        first, *others = result.entries
        return replace(result, entries=(replace(first, study=with_edge(first.study, "study")), *others))
    if part == "categories":
        (name, study), *others = result.studies.items()
        return replace(result, studies={name: with_edge(study, "study"), **dict(others)})
    return replace(result, modes=(replace(result.modes[0], edges=(EDGE,)), *result.modes[1:]))


SHOWN = {
    "study": (console_summary, report_page),
    "comparison": (console_comparison, comparison_page),
    "categories": (console_categories, category_page),
    "ablation": (console_ablation, ablation_page),
}


@pytest.fixture
def results(study, comparison, ablation):
    return {
        "study": study(),
        "comparison": comparison(),
        "categories": CategoryResults("svd", {"Office": study()}, {}),
        "ablation": ablation(),
    }


@pytest.mark.parametrize("kind", SHOWN)
def test_an_edge_is_told_with_its_range_in_console_and_report(results, kind):
    console_of, page_of = SHOWN[kind]
    texts = {}
    for told, result in ((False, results[kind]), (True, with_edge(results[kind], kind))):
        console = Console(width=200, file=io.StringIO())
        console.print(console_of(result))
        texts[told] = (console.file.getvalue(), page_of(result, {}))
    for text in texts[True]:
        assert "lambda_1=3000 is at the upper end of choice [300, 1000, 3000]" in text
    for text in texts[False]:
        assert "at the upper end" not in text
