"""A choice on the edge of its range is told wherever a study's result is read."""

from dataclasses import replace

import pytest

from coldray.experiments.categories import CategoryResults
from coldray.experiments.edges import Edge
from coldray.reports.ablation.report import ablation_report
from coldray.reports.categories.report import category_report
from coldray.reports.comparison.report import comparison_report
from coldray.reports.study.report import study_report
from reports.reading import printed, words

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


REPORTS = {
    "study": study_report,
    "comparison": comparison_report,
    "categories": category_report,
    "ablation": ablation_report,
}


@pytest.fixture
def results(study, comparison, ablation):
    return {
        "study": study(),
        "comparison": comparison(),
        "categories": CategoryResults("svd", {"Office": study()}, {}),
        "ablation": ablation(),
    }


@pytest.mark.parametrize("kind", REPORTS)
def test_an_edge_is_told_with_its_range_in_console_and_report(results, kind):
    report_of = REPORTS[kind]
    said = "lambda_1=3000 is at the upper end of choice [300, 1000, 3000]"
    told, untold = report_of(with_edge(results[kind], kind)), report_of(results[kind])
    assert said in printed(told, 200)
    assert said in words(told)
    assert "at the upper end" not in printed(untold, 200) + words(untold)
