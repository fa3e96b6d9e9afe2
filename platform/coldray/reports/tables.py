"""The tables of the report, as plain cells that the page only has to set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from coldray.experiments.ablation.result import AblationResult
from coldray.experiments.comparison.result import ComparisonResult
from coldray.experiments.results import FoldMetrics, StudyResult, TrialResult, mean_metric, std_metric
from coldray.reports.labels import (
    DASH,
    counted,
    headline_metrics,
    mean_and_std,
    metric_label,
    metric_number,
    parameter_label,
    trial_metric,
    value_label,
)
from coldray.reports.published import PublishedTable
from coldray.reports.study import top_trials

_FINGERPRINT_CHARACTERS = 12
DATASET_WORDS = {
    "n_users": "users",
    "n_items": "items",
    "n_unclicked_items": "items without clicks",
    "n_interactions": "interactions",
}
"""What the numbers of a dataset are called."""
_MANY_PARAMETERS = 5


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    note: str = ""
    """Printed small below the text."""
    title: str = ""
    """The whole of what the text abbreviates."""
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """A table: the first cell of each row names the row."""

    caption: str
    header: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    highlighted: int | None = None
    """Position of the row of the selected configuration."""


def number(text: str, note: str = "") -> Cell:
    """Return the cell of a number."""
    return Cell(text, note=note, is_number=True)


def facts(caption: str, values: Mapping[str, str]) -> Table:
    """Return a table of names and values."""
    return Table(caption, (), tuple((Cell(name.replace("_", " ")), Cell(str(value))) for name, value in values.items()))


def dataset_facts(result: StudyResult | AblationResult | ComparisonResult) -> Table:
    """Return what is known of the dataset; a fingerprint is shortened, and whole in its title."""
    rows = []
    for name, value in result.dataset.items():
        if name == "notes":
            rows += [(Cell("as read"), Cell(str(note))) for note in value]
            continue
        cell = Cell(value_label(value))
        if name == "fingerprint":
            cell = Cell(str(value)[:_FINGERPRINT_CHARACTERS], title=str(value))
        elif name == "density":
            cell = Cell(f"{100 * float(value):.2f} %")
        elif isinstance(value, int) and not isinstance(value, bool):
            cell = Cell(f"{value:,}")
        rows.append((Cell(DATASET_WORDS.get(name, name.replace("_", " "))), cell))
    return Table("Dataset, after the filters", (), tuple(rows))


def winner_configuration(result: StudyResult) -> Table:
    """Return every parameter of the winner, with the searched ones first, and its validation metrics."""
    winner = result.selection.winner
    names = [*result.searched, *(name for name in winner.config if name not in result.searched)]
    rows = [
        (
            Cell(parameter_label(name)),
            Cell(value_label(winner.config.get(name))),
            Cell("searched" if name in result.searched else "fixed"),
        )
        for name in names
    ]
    header = (Cell("Parameter"), Cell("Value"), Cell("How it was set"))
    return Table(f"Configuration of trial #{winner.number}", header, tuple(rows))


def winner_validation(result: StudyResult) -> Table:
    """Return the winner's validation metrics over its splits."""
    winner = result.selection.winner
    metrics = winner.folds[0].metrics if winner.folds else {}
    rows = ((Cell(metric_label(metric)), number(trial_metric(winner, metric))) for metric in metrics)
    caption = f"Validation metrics of trial #{winner.number} over {counted(len(winner.folds), 'split')}"
    return Table(caption, (Cell("Metric"), number(_spread_header(len(winner.folds)))), tuple(rows))


def _spread_header(n_splits: int) -> str:
    return "Mean ± std" if n_splits > 1 else "Value"


def tested_metrics(result: StudyResult) -> Table | None:
    """Return the winner's test metrics: metrics down, cutoffs across; None when nothing was tested."""
    if not result.test:
        return None
    metrics = tuple(result.test[0].metrics)
    cutoffs = list(dict.fromkeys(metric.partition("@")[2] for metric in metrics))
    rows = []
    for base in dict.fromkeys(metric.partition("@")[0] for metric in metrics):
        names = [f"{base}@{cutoff}" if cutoff else base for cutoff in cutoffs]
        cells = (_test_cell(result, name) if name in metrics else number(DASH) for name in names)
        rows.append((Cell(metric_label(f"{base}@").rstrip("@")), *cells))
    header = (Cell("Metric"), *(number(f"@{cutoff}" if cutoff else "all") for cutoff in cutoffs))
    shown = "mean ± standard deviation" if len(result.test) > 1 else "value"
    interval = ", with the 95 % interval of the mean below" if result.test_intervals else ""
    caption = f"Test metrics over {counted(len(result.test), 'split')}: {shown}{interval}"
    return Table(caption, header, tuple(rows))


def _test_cell(result: StudyResult, metric: str) -> Cell:
    return measured_cell(result.test, result.test_intervals, metric)


def measured_cell(folds: tuple[FoldMetrics, ...], intervals: Mapping[str, tuple[float, float]], metric: str) -> Cell:
    """Return ``mean ± std`` over `folds` with the interval below; a dash where a fold lacks the metric."""
    if not folds or any(metric not in fold.metrics for fold in folds):
        return number(DASH)
    text = mean_and_std(mean_metric(folds, metric), std_metric(folds, metric), len(folds))
    interval = intervals.get(metric)
    return number(text, note=f"{metric_number(interval[0])} to {metric_number(interval[1])}" if interval else "")


def tested_splits(result: StudyResult) -> Table | None:
    """Return the winner's test metrics split by split; None when nothing was tested."""
    if not result.test:
        return None
    metrics = tuple(result.test[0].metrics)
    rows = (
        (
            Cell(f"seed {fold.seed}, split {fold.split}"),
            *(number(metric_number(fold.metrics[metric])) for metric in metrics),
        )
        for fold in result.test
    )
    return Table("Test metrics of each split", _header("Split", metrics), tuple(rows))


def _header(first: str, metrics: Iterable[str]) -> tuple[Cell, ...]:
    return (Cell(first), *(number(metric_label(metric)) for metric in metrics))


def best_configurations(result: StudyResult, top: int) -> Table:
    """Return the `top` configurations by validation metric, and the winner after them when it is not among them."""
    metrics = headline_metrics(result)
    ranks = {trial.number: rank for rank, trial in enumerate(result.ranked_trials(), start=1)}
    shown = top_trials(result, top)
    rows = [
        (
            Cell(str(ranks.get(trial.number, DASH))),
            Cell(f"#{trial.number}"),
            *(Cell(value_label(trial.config.get(name))) for name in result.searched),
            *(_trial_cell(trial, metric, stacked=len(result.searched) > _MANY_PARAMETERS) for metric in metrics),
            Cell(_standing(result, trial)),
        )
        for trial in shown
    ]
    searched = (Cell(parameter_label(name)) for name in result.searched)
    header = (Cell("Rank"), Cell("Trial"), *searched, *_header("", metrics)[1:], Cell("Status"))
    numbers = [trial.number for trial in shown]
    caption = "Best configurations by mean validation metric ± standard deviation over splits"
    return Table(caption, header, tuple(rows), highlighted=numbers.index(result.selection.winner.number))


def _trial_cell(trial: TrialResult, metric: str, *, stacked: bool) -> Cell:
    """Return a validation metric; `stacked` puts the deviation below the mean, which leaves width to the parameters."""
    mean, plus_minus, std = trial_metric(trial, metric).partition(" ± ")
    return number(mean, note=f"± {std}") if stacked and plus_minus else number(mean + plus_minus + std)


def _standing(result: StudyResult, trial: TrialResult) -> str:
    return f"{trial.status}, selected" if trial.number == result.selection.winner.number else trial.status


def trial_counts(result: StudyResult) -> Table:
    """Return how many trials ended in which way."""
    statuses = [trial.status for trial in result.trials]
    rows = [(Cell(status), number(str(statuses.count(status)))) for status in ("finished", "pruned", "failed")]
    rows.append((Cell("all"), number(str(len(statuses)))))
    return Table("Trials by how they ended", (Cell("Status"), number("Trials")), tuple(rows))


def failures(result: StudyResult) -> Table | None:
    """Return the failed trials with their messages; None when there is none."""
    failed = [trial for trial in result.trials if trial.status == "failed"]
    if not failed:
        return None
    rows = ((Cell(f"#{trial.number}"), Cell(trial.error or "no message")) for trial in failed)
    return Table("Failed trials and what stopped them", (Cell("Trial"), Cell("Message")), tuple(rows))


def published_numbers(result: StudyResult, table: PublishedTable) -> Table:
    """Return the published results with the one measured here as the last row."""
    return published_and_measured(table, {result.model: (result.test, result.test_intervals)})


def published_and_measured(
    table: PublishedTable,
    measured: Mapping[str, tuple[tuple[FoldMetrics, ...], Mapping[str, tuple[float, float]]]],
) -> Table:
    """Return the published results and after them those `measured` here: folds and intervals by name."""
    metrics: tuple[str, ...] = tuple(dict.fromkeys(name for row in table.methods.values() for name in row))
    rows = [
        (Cell(method), Cell("published"), *(number(metric_number(row[metric])) for metric in metrics))
        for method, row in table.methods.items()
    ]
    rows += [
        (Cell(name), Cell("measured here"), *(measured_cell(folds, intervals, metric) for metric in metrics))
        for name, (folds, intervals) in measured.items()
    ]
    header = (Cell("Method"), Cell("Source"), *_header("", metrics)[1:])
    return Table(f"{table.title}: published and measured", header, tuple(rows), highlighted=len(rows) - 1)
