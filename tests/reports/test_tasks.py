"""What is told of warm, cold and overall: a table in page and terminal, and nothing where they were not measured."""

import dataclasses

from coldray.experiments.tasks.mixed import MIXED_TASKS
from coldray.reports.comparison.report import comparison_report
from coldray.reports.study.report import study_report
from reports.reading import printed, table, tables, words

CAPTION = "Test metrics of each task; below, the 95 % interval over its users"
MEASURES = ("ndcg@20", "recall@20", "precision@20")


def with_tasks(entry, level):
    parts = {
        f"{task}.{name}": level + 0.1 * row + 0.01 * column
        for row, task in enumerate(MIXED_TASKS)
        for column, name in enumerate(MEASURES)
    }
    folds = tuple(dataclasses.replace(fold, parts=parts) for fold in entry.study.test)
    intervals = {"cold.ndcg@20": (level, level + 0.2)}
    return dataclasses.replace(entry, study=dataclasses.replace(entry.study, test=folds, test_intervals=intervals))


def mixed_comparison(comparison):
    result = comparison()
    entries = tuple(with_tasks(entry, 0.1 + 0.001 * place) for place, entry in enumerate(result.entries))
    return dataclasses.replace(result, entries=entries)


def test_a_comparison_tells_every_task_of_every_entry(comparison):
    report = comparison_report(mixed_comparison(comparison))
    found = table(report, CAPTION)
    assert [cell.text for cell in found.header] == ["Task", "Entry", "NDCG@20", "RECALL@20", "PRECISION@20"]
    rows = [[cell.text for cell in row] for row in found.rows]
    assert len(rows) == 3 * 4
    assert [row[:2] for row in rows[3:6]] == [["warm", "kernel_align_full"], ["cold", "marec"], ["cold", "marec_plus"]]
    assert [text.split(" ")[0] for text in rows[5][2:]] == ["0.2010", "0.2110", "0.2210"]
    assert found.rows[4][2].note == "0.1000 to 0.3000"
    assert "what validated, is never ranked" in words(report)
    assert "0.3010" in printed(report)


def test_a_study_tells_them_too(comparison):
    report = study_report(mixed_comparison(comparison).entries[0].study)
    assert len(table(report, CAPTION).rows) == 3


def test_nothing_is_told_where_they_were_not_measured(comparison):
    report = comparison_report(comparison())
    assert CAPTION not in [one.caption for one in tables(report)]
    assert "Warm, cold and overall" not in words(report)
