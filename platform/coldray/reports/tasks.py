"""What is told of models on warm items, on cold ones, and on both: a table."""

from __future__ import annotations

from collections.abc import Sequence

from coldray.evaluation.metrics import LEADING
from coldray.experiments.tasks.mixed import MIXED_TASKS
from coldray.reports.report import Cell, Section, Table, Text, number
from coldray.reports.tables import Measured, has_metric, measured_cell, metric_header

_HEADING = "Warm, cold and overall"
_SAID = (
    "Warm: items with a train click compete, and held-out clicks on them are to be found. Cold: the items without one, "
    "in the test those of validation too. Overall: all items, for the users who are to find some of both. What is "
    "known of a user, and in the test what validated, is never ranked."
)


def tasks_section(models: Sequence[Measured]) -> Section:
    """Return text and table of models that were tested in the tasks; nothing if they were not."""
    metrics = _metrics(models)
    if not metrics:
        return Section(_HEADING, (), "page")
    rows = tuple(
        (
            Cell(task),
            Cell(model.name),
            *(measured_cell(model.folds, model.intervals, f"{task}.{metric}") for metric in metrics),
        )
        for task in MIXED_TASKS
        for model in models
    )
    caption = "Test metrics of each task; below, the 95 % interval over its users"
    return Section(_HEADING, (Text(_SAID), Table(caption, metric_header(metrics, "Task", "Entry"), rows)), "page")


def tasks_in_short(models: Sequence[Measured]) -> Section:
    """Return the table for a terminal: a row a model, with the first measure of each task."""
    metrics = _metrics(models)
    if not metrics:
        return Section("", (), "terminal")
    rows = tuple(
        (
            Cell(model.name),
            *(model.cell(task, metrics[0]) for task in MIXED_TASKS),
        )
        for model in models
    )
    header = (Cell("entry"), *(number(f"{task} {metrics[0]}") for task in MIXED_TASKS))
    return Section("", (Table("Test metrics of each task", header, rows),), "terminal")


def _metrics(models: Sequence[Measured]) -> list[str]:
    """Return the measures that every model has of every task, those of shorter lists first."""
    found = dict.fromkeys(
        name.partition(".")[2] for model in models for fold in model.folds for name in fold.parts if "." in name
    )
    wanted = [name for name in found if name.partition("@")[0] in LEADING]
    every = [(model, f"{task}.{name}") for model in models for task in MIXED_TASKS for name in wanted]
    return wanted if all(has_metric(model.folds, name) for model, name in every) else []
