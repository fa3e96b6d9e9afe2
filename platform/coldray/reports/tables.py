"""Tables and sections that reports of several kinds have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import polars as pl

from coldray.data.splits.items import HeldOut
from coldray.experiments.results import FoldMetrics, Lift, mean_metric, std_metric
from coldray.reports.labels import DASH, mean_and_std, metric_label, metric_number, value_label
from coldray.reports.published import no_comparison, published_for
from coldray.reports.report import Cell, Columns, Part, Section, Table, Text, number

Intervals = Mapping[str, tuple[float, float]]
"""95 % intervals by metric."""
_FINGERPRINT_CHARACTERS = 12
_PUBLISHED = "Comparison with published numbers"
_DATASET_WORDS = {
    "n_users": "users",
    "n_items": "items",
    "n_unclicked_items": "items without clicks",
    "n_interactions": "interactions",
}
"""What the numbers of a dataset are called."""


def facts(caption: str, values: Mapping[str, str]) -> Table:
    """Return a table of names and values."""
    rows = tuple((Cell(name.replace("_", " ")), Cell(str(value))) for name, value in values.items())
    return Table(caption, (), rows, look="facts")


def origin(protocol: Mapping[str, str], dataset: Mapping[str, Any], caption: str = "") -> Columns:
    """Return how the numbers came to be, beside what is known of the dataset."""
    of_data = _dataset_facts(dataset, caption or "Dataset, after the filters")
    return Columns((facts("How the numbers came to be", protocol), of_data))


def _dataset_facts(dataset: Mapping[str, Any], caption: str) -> Table:
    """Return what is known of the dataset; a fingerprint is shortened, and whole in its title."""
    rows = []
    for name, value in dataset.items():
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
        rows.append((Cell(_DATASET_WORDS.get(name, name.replace("_", " "))), cell))
    return Table(caption, (), tuple(rows), look="facts")


def metric_header(metrics: Iterable[str], *first: str, note: str = "") -> tuple[Cell, ...]:
    """Return the header of a table with a column for each metric after the `first` ones."""
    return (*map(Cell, first), *(number(metric_label(metric), note) for metric in metrics))


def interval_label(interval: tuple[float, float] | None, none: str = "") -> str:
    """Return ``0.2981 to 0.3163``."""
    return f"{metric_number(interval[0])} to {metric_number(interval[1])}" if interval else none


def has_metric(folds: tuple[FoldMetrics, ...], metric: str) -> bool:
    """Tell whether every fold, of one at least, has `metric`."""
    return bool(folds) and all(metric in fold.metrics or metric in fold.parts for fold in folds)


def known_mean(folds: tuple[FoldMetrics, ...], metric: str) -> float:
    """Return the mean over folds; NaN where one lacks the metric."""
    return mean_metric(folds, metric) if has_metric(folds, metric) else math.nan


@dataclass(frozen=True)
class Measured:
    """A model that was tested, also on parts of the test."""

    name: str
    folds: tuple[FoldMetrics, ...]
    intervals: Intervals

    def mean(self, part: str, metric: str) -> float:
        """Return the mean of a part's metric over splits; NaN where a split has nothing to be found."""
        return known_mean(self.folds, f"{part}.{metric}")

    def cell(self, part: str, metric: str) -> Cell:
        """Return the mean as a table has it."""
        return number(metric_number(self.mean(part, metric)))


def short_cutoff(cutoffs: Sequence[int]) -> int:
    """Return 10, or the shortest list that was measured."""
    return 10 if 10 in cutoffs or not cutoffs else min(cutoffs)


def long_cutoff(cutoffs: Sequence[int]) -> int | None:
    """Return 50, or the longest list that was measured; None when only one length was."""
    longer = [cutoff for cutoff in cutoffs if cutoff > short_cutoff(cutoffs)]
    return 50 if 50 in longer else max(longer, default=None)


def fold_table(names: Sequence[str], measured: Iterable[tuple[Sequence[str], tuple[FoldMetrics, ...]]]) -> pl.DataFrame:
    """Return a row for each fold and metric of what was `measured`, labelled in the columns `names`."""
    labels = dict.fromkeys(names, pl.String)
    schema = {**labels, "seed": pl.Int64, "split": pl.Int64, "metric": pl.String, "value": pl.Float64}
    rows = [
        (*labels, fold.seed, fold.split, metric, float(value))
        for labels, folds in measured
        for fold in folds
        for metric, value in fold.every.items()
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def split_table(caption: str, header: tuple[Cell, ...], rows: Iterable[tuple[FoldMetrics, Iterable[float]]]) -> Table:
    """Return a row of metric values for each split."""
    cells = (
        (Cell(f"seed {fold.seed}, split {fold.split}"), *(number(metric_number(value)) for value in values))
        for fold, values in rows
    )
    return Table(caption, header, tuple(cells))


def lift_values(lift: Lift | None) -> tuple[float | None, ...]:
    """Return difference, ends of the interval, share, p and adjusted p, as a table has them."""
    return (None,) * 6 if lift is None else astuple(lift)


def spread(folds: tuple[FoldMetrics, ...], metric: str) -> str:
    """Return ``mean ± std`` over `folds`; a dash where one lacks the metric."""
    known = has_metric(folds, metric)
    return mean_and_std(mean_metric(folds, metric), std_metric(folds, metric), len(folds)) if known else DASH


def measured_cell(folds: tuple[FoldMetrics, ...], intervals: Intervals, metric: str) -> Cell:
    """Return ``mean ± std`` over `folds` with the interval below; a dash where a fold lacks the metric."""
    known = has_metric(folds, metric)
    return number(spread(folds, metric), interval_label(intervals.get(metric)) if known else "")


def beside_published(
    dataset: Mapping[str, Any],
    measured: Mapping[str, tuple[tuple[FoldMetrics, ...], Intervals]],
    held_out: HeldOut = "items",
    note: str = "",
    *more: Part | None,
) -> Section:
    """Return the published results and after them those `measured` here, folds and intervals by name, or why not."""
    table = published_for(dataset, held_out)
    if table is None:
        return Section(_PUBLISHED, (Text(no_comparison(dataset, held_out)), *more), "page")
    rows = [
        (Cell(method), Cell("published"), *(number(metric_number(row[metric])) for metric in table.metrics))
        for method, row in table.methods.items()
    ]
    rows += [
        (Cell(name), Cell("measured here"), *(measured_cell(folds, intervals, metric) for metric in table.metrics))
        for name, (folds, intervals) in measured.items()
    ]
    shown = Table(
        f"{table.title}: published and measured",
        metric_header(table.metrics, "Method", "Source"),
        tuple(rows),
        highlighted=len(rows) - 1,
    )
    said = f"Published: {table.source}; {table.protocol}.{note}"
    return Section(_PUBLISHED, (Text(said), shown, *more), "page")
