"""What is told as clicks become known: the table in page and terminal, the curves, and nothing where none does."""

import dataclasses

import pytest

from coldray.experiments.tasks.warming import TASKS
from coldray.reports.comparison.figures import FIGURES
from coldray.reports.comparison.report import comparison_report, summary_table
from coldray.reports.study.report import study_report
from reports.reading import printed, table, tables, words

CAPTION = "Test NDCG@10 by how many clicks of each cold item are known"


def with_parts(folds, level, tasks=TASKS, clicks=(0, 5, 50)):
    """Return folds with the parts of a warming; where all but 50 clicks are known nothing cold is left in one."""
    found = []
    for place, fold in enumerate(folds):
        parts = {}
        for number, task in enumerate(tasks):
            for n in clicks:
                parts[f"{task}.n{n}.ndcg@10"] = level + 0.1 * number + 0.001 * n
                parts[f"{task}.n{n}_of_rest.ndcg@10"] = level
                parts[f"new_items.n{n}.listed@10"], parts[f"new_items.n{n}.deserved"] = 0.123, 0.4
        if place == 0 and len(tasks) > 1:
            del parts["cold_among_cold.n50.ndcg@10"]
        found.append(dataclasses.replace(fold, parts=parts))
    return tuple(found)


def warmed(entry, level, **fields):
    folds = with_parts(entry.study.test, level, **fields)
    intervals = {"overall.n0_of_rest.ndcg@10": (level - 0.01, level + 0.01)}
    return dataclasses.replace(entry, study=dataclasses.replace(entry.study, test=folds, test_intervals=intervals))


def warmed_comparison(comparison, **fields):
    result = comparison()
    entries = tuple(warmed(entry, 0.1 + 0.01 * place, **fields) for place, entry in enumerate(result.entries))
    return dataclasses.replace(result, entries=entries)


def test_a_comparison_tells_every_task_at_every_number(comparison):
    result = warmed_comparison(comparison)
    report = comparison_report(result)
    rows = [[cell.text for cell in row] for row in table(report, CAPTION).rows]
    assert [row[:2] for row in rows[:5]] == [
        ["0", "marec"], ["0", "marec_plus"], ["0", "kernel_align"], ["0", "kernel_align_full"], ["5", "marec"],
    ]  # fmt: skip
    assert rows[1][2:] == ["0.1100", "0.2100", "0.3100", "0.4100", "12.3 %", "40.0 %"]
    assert rows[4][2:] == ["0.1050", "0.2050", "0.3050", "0.4050", "12.3 %", "40.0 %"]
    assert [row[2] for row in rows if row[0] == "50"] == ["–"] * 4
    assert "0.4100" in printed(report)
    assert "compare models at the same n" in words(report)


def test_curves_are_drawn_for_every_task_with_what_new_items_deserve(comparison):
    report = comparison_report(warmed_comparison(comparison))
    (picture,) = [picture for picture in report.pictures if picture.name == "warming"]
    assert picture.name in FIGURES
    panels = [axes for axes in picture.figure.axes if axes.lines]
    assert len(panels) == 5
    assert [len(axes.lines) for axes in panels] == [4, 4, 4, 4, 5]
    assert [text.get_text() for text in panels[0].get_xticklabels()] == ["0", "5", "50"]
    assert list(panels[3].lines[1].get_ydata()) == pytest.approx([0.11] * 3)
    assert list(panels[4].lines[4].get_ydata()) == pytest.approx([40] * 3)
    assert "kernel_align: 0.4200 at 0" in picture.alt


def test_users_have_one_task(comparison):
    report = comparison_report(warmed_comparison(comparison, tasks=("overall",)))
    found = table(report, CAPTION.replace("item", "user"))
    assert [cell.text for cell in found.header] == ["Known clicks", "Model", "Overall"]
    (picture,) = [picture for picture in report.pictures if picture.name == "warming"]
    assert len([axes for axes in picture.figure.axes if axes.lines]) == 1


def test_a_study_tells_them_too(comparison):
    entry = warmed_comparison(comparison).entries[0]
    report = study_report(entry.study)
    assert len(table(report, CAPTION).rows) == 3
    assert "0.4000" in printed(report)
    assert "warming" in [picture.name for picture in report.pictures]


def test_nothing_is_told_where_nothing_became_known(comparison):
    report = comparison_report(comparison())
    assert CAPTION not in [one.caption for one in tables(report)]
    assert "As clicks become known" not in words(report)
    assert "warming" not in [picture.name for picture in report.pictures]


def test_an_export_has_the_figures_of_every_part(comparison):
    result = warmed_comparison(comparison)
    summary = summary_table(result)
    row = summary.filter(entry="marec", metric="overall.n5.ndcg@10").row(0, named=True)
    assert row["mean"] == pytest.approx(0.405)
    assert row["validation_mean"] is None
    assert row["splits"] == len(result.entries[0].folds)
    assert summary.filter(metric="cold_among_cold.n50.ndcg@10").is_empty()
    written = comparison_report(result).files
    assert written["results.csv"].filter(metric="overall.n5.ndcg@10", part="test").height == 24
    assert "overall.n5.ndcg@10" in written["results.json"]["entries"]["marec"]["test"][0]["metrics"]


def test_a_single_number_of_a_single_task_is_the_test_itself_and_told_once(comparison):
    """As of `user-cold`: a curve would have one point, and a table the number of the test."""
    report = comparison_report(warmed_comparison(comparison, tasks=("overall",), clicks=(0,)))
    assert "compare models at the same n" not in words(report)
    assert not [found for found in tables(report) if "clicks of each cold" in found.caption]
    several = comparison_report(warmed_comparison(comparison, tasks=("overall",), clicks=(0, 5)))
    assert "compare models at the same n" in words(several)
