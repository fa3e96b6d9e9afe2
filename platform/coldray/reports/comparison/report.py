"""The report of a comparison: one HTML page that needs no other file and no network.

An export has it beside tidy tables, everything as JSON, the figures, and an archive of them all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from coldray.experiments.comparison.config import Track
from coldray.experiments.comparison.result import ComparisonResult, EntryResult
from coldray.experiments.inspection.slices import SliceMetrics
from coldray.experiments.results import FoldMetrics, Lift, mean_metric, std_metric
from coldray.reports.comparison.figures import FIGURES, comparison_figures
from coldray.reports.comparison.inspection_tables import costs, nearest_items, slices
from coldray.reports.comparison.words import TRACKS, figure_words, findings, headline, shown_metrics, validation_mean
from coldray.reports.console import trial_counts
from coldray.reports.export_files import exporting, plain
from coldray.reports.labels import (
    DASH,
    config_label,
    duration_label,
    is_synthetic,
    mean_and_std,
    metric_label,
    metric_number,
    promoted,
)
from coldray.reports.modes import has_metric, p_label, percent_label, signed
from coldray.reports.page import render, save_page
from coldray.reports.pictures import pictures
from coldray.reports.published import PublishedTable, no_comparison, published_for
from coldray.reports.style import save_figure
from coldray.reports.tables import Cell, Table, dataset_facts, facts, measured_cell, number, published_and_measured


def tracks(result: ComparisonResult) -> list[list[Table]]:
    """Return for each track that has an entry its measured values and its differences."""
    found = []
    for track in TRACKS:
        if result.of_track(track):
            differing = differences(result, track)
            found.append([measured(result, track), *([differing] if differing else [])])
    return found


def measured(result: ComparisonResult, track: Track) -> Table:
    """Return validation and test metrics of a track's entries: ``mean ± std`` over splits, the interval below."""
    metrics, entries = shown_metrics(result), result.of_track(track)
    rows = tuple(
        (
            Cell(entry.name, note=entry.model if entry.model != entry.name else ""),
            _validation(entry, result.metric),
            *(measured_cell(entry.folds, entry.intervals, metric) for metric in metrics),
            number(str(len(entry.study.trials)), note=_odd_trials(entry)),
            number(duration_label(entry.seconds)),
        )
        for entry in entries
    )
    header = (
        Cell("Entry"),
        number(metric_label(result.metric), note="validation"),
        *(number(metric_label(metric), note="test") for metric in metrics),
        number("Trials"),
        number("Time"),
    )
    n_splits = len(entries[0].folds)
    spread = f"Mean ± standard deviation over {n_splits} splits" if n_splits > 1 else "Values of one split"
    caption = f"{TRACKS[track]}. {spread}; below, the 95 % interval over users"
    return Table(caption, header, rows, highlighted=_champion_row(result, entries))


def _validation(entry: EntryResult, metric: str) -> Cell:
    folds = entry.validation
    return number(mean_and_std(validation_mean(entry, metric), std_metric(folds, metric), len(folds)))


def _odd_trials(entry: EntryResult) -> str:
    """Return how trials ended where not all of them finished."""
    odd = sum(trial.status != "finished" for trial in entry.study.trials)
    return trial_counts(entry.study).partition(": ")[2] if odd else ""


def _champion_row(result: ComparisonResult, entries: tuple[EntryResult, ...]) -> int | None:
    names = [entry.name for entry in entries]
    return names.index(result.champion) if result.champion in names else None


def differences(result: ComparisonResult, track: Track) -> Table | None:
    """Return the paired differences of a track's entries; None when nothing was compared."""
    metrics, entries = shown_metrics(result)[:2], result.of_track(track)  # as many as a page is wide
    compared = tuple(entry for entry in entries if entry.over_baseline or entry.over_rival)
    if not compared:
        return None
    rows = tuple(
        (
            Cell(entry.name),
            *(_difference(entry.over_baseline.get(metric)) for metric in metrics),
            Cell(entry.rival or DASH),
            _difference(entry.over_rival.get(result.metric)),
        )
        for entry in compared
    )
    header = (
        Cell("Entry"),
        *(number(metric_label(metric), note=f"over {result.baseline}") for metric in metrics),
        Cell("Best other", note="of the track, on validation"),
        number(metric_label(result.metric), note="over it"),
    )
    caption = (
        "Paired differences over the same users; below, the 95 % interval and the two-sided p after the correction "
        f"for all comparisons ({result.correction})"
    )
    return Table(caption, header, rows, highlighted=_champion_row(result, compared))


def _difference(lift: Lift | None) -> Cell:
    if lift is None:
        return number(DASH)
    between = f"{signed(lift.low, 4)} to {signed(lift.high, 4)}, {p_label(lift.p_adjusted)}"
    return number(f"{signed(lift.difference, 4)} ({percent_label(100 * lift.relative)})", note=between)


def configurations(result: ComparisonResult) -> Table:
    """Return the winner's configuration of each entry: what was searched, what was fixed, and what it reads."""
    rows = tuple(
        (
            Cell(entry.name, note=f"{entry.model}, trial #{entry.study.selection.winner.number}"),
            Cell(config_label(entry.config, entry.study.searched) or DASH),
            Cell(config_label(entry.config, [name for name in entry.config if name not in entry.study.searched])),
            Cell(", ".join(f"{name} ({method.replace('_', '-')})" for name, method in entry.attributes.items())),
        )
        for entry in result.entries
    )
    header = (Cell("Entry"), Cell("Searched"), Cell("Fixed"), Cell("Attributes"))
    return Table("Configuration of each entry's winner", header, rows)


def splits(result: ComparisonResult) -> Table:
    """Return the test metric that decided, split by split and entry by entry."""
    folds = result.entries[0].folds
    rows = tuple(
        (
            Cell(f"seed {fold.seed}, split {fold.split}"),
            *(number(metric_number(entry.folds[row].metrics[result.metric])) for entry in result.entries),
        )
        for row, fold in enumerate(folds)
    )
    header = (Cell("Split"), *(number(entry.name) for entry in result.entries))
    return Table(f"Test {metric_label(result.metric)} of each split", header, rows)


def failures(result: ComparisonResult) -> Table | None:
    """Return the entries that failed with their reasons; None when there is none."""
    if not result.failed:
        return None
    rows = tuple((Cell(failed.name), Cell(failed.track), Cell(failed.reason)) for failed in result.failed)
    return Table("Failed entries and what stopped them", (Cell("Entry"), Cell("Track"), Cell("Reason")), rows)


def published_beside(result: ComparisonResult, table: PublishedTable) -> Table:
    """Return the published results and after them those of each entry."""
    return published_and_measured(table, {entry.name: (entry.folds, entry.intervals) for entry in result.entries})


def write_comparison_report(
    result: ComparisonResult, path: Path, *, figures: Mapping[str, Figure] | None = None
) -> Path:
    """Write the report of `result` to `path` and return the path.

    Parameters
    ----------
    result
        The comparison. Nothing in it is trusted: every text is escaped.
    path
        The file to write, completely or not at all.
    figures
        Figures by name, as of :func:`coldray.reports.comparison.figures.comparison_figures`, which makes them when they
        are not given.

    Raises
    ------
    OutputError
        If the folder cannot be created or written.
    """
    return save_page(comparison_page(result, comparison_figures(result) if figures is None else figures), path)


def comparison_page(result: ComparisonResult, figures: Mapping[str, Figure]) -> str:
    """Return the report as one HTML page."""
    table = published_for(result.dataset, result.held_out)
    note = (
        no_comparison(result.dataset, result.held_out)
        if table is None
        else f"Published: {table.source}; {table.protocol}."
    )
    return render(
        "comparison.html",
        synthetic=is_synthetic(result),
        title=f"{result.name}: comparison on {result.dataset.get('name', 'an unnamed dataset')}",
        outcome=headline(result),
        findings=findings(result),
        tracks=tracks(result),
        failures=failures(result),
        held_out=result.held_out,
        slices=slices(result),
        costs=costs(result),
        nearest=nearest_items(result),
        figures=pictures(figures, figure_words(result)),
        protocol=facts("How the numbers came to be", {**result.protocol, **promoted(result)}),
        dataset=dataset_facts(result),
        duration=duration_label(result.seconds),
        configurations=configurations(result),
        splits=splits(result),
        published=None if table is None else published_beside(result, table),
        published_note=note,
    )


RESULTS = "results.csv"
SUMMARY = "summary.csv"
VALUES = "results.json"
REPORT = "report.html"
_PICTURES = tuple(f"{name}{suffix}" for name in FIGURES for suffix in (".png", ".svg"))
_FILES = (REPORT, RESULTS, SUMMARY, VALUES, *_PICTURES)
"""All that an export may have."""


@dataclass(frozen=True)
class ComparisonFiles:
    """Where a comparison was written."""

    folder: Path
    archive: Path
    """All files of the folder in one zip file beside it."""
    written: tuple[Path, ...]
    """The files of the folder, the report first."""


def export_comparison(result: ComparisonResult, folder: Path) -> ComparisonFiles:
    """Write all files of `result` to `folder` and to a zip file beside it, completely or not at all.

    An earlier export in `folder` is replaced. The same result gives the same bytes.

    Raises
    ------
    OutputError
        If the folder cannot be written, or holds files that are not those of an export.
    """
    folder = folder.absolute()
    with exporting(folder, _FILES) as (made, archive):
        _write_files(result, made)
    return ComparisonFiles(folder, archive, tuple(path for name in _FILES if (path := folder / name).is_file()))


def _write_files(result: ComparisonResult, folder: Path) -> None:
    results_table(result).write_csv(folder / RESULTS)
    summary_table(result).write_csv(folder / SUMMARY)
    text = json.dumps(plain(values_of(result)), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / VALUES).write_text(text + "\n", encoding="utf-8")
    figures = comparison_figures(result)
    for name, figure in figures.items():
        for suffix in (".png", ".svg"):
            save_figure(figure, folder / f"{name}{suffix}")
    write_comparison_report(result, folder / REPORT, figures=figures)


def results_table(result: ComparisonResult) -> pl.DataFrame:
    """Return a row for each entry, part (validation or test), seed, split and metric."""
    texts = dict.fromkeys(("entry", "track", "part"), pl.String)
    schema = {**texts, "seed": pl.Int64, "split": pl.Int64, "metric": pl.String, "value": pl.Float64}
    rows = [
        (entry.name, entry.track, part, fold.seed, fold.split, metric, float(value))
        for entry in result.entries
        for part, folds in _parts(entry).items()
        for fold in folds
        for metric, value in fold.metrics.items()
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _parts(entry: EntryResult) -> dict[str, tuple[FoldMetrics, ...]]:
    return {"validation": entry.validation, "test": entry.folds}


def summary_table(result: ComparisonResult) -> pl.DataFrame:
    """Return a row for each entry and test metric: spread over splits, interval and differences over users."""
    lift = ("", "_low", "_high", "_relative", "_p_value", "_p_adjusted")
    floats = ("validation_mean", "mean", "std", "low", "high")
    schema = {
        **dict.fromkeys(("entry", "track", "metric"), pl.String),
        "splits": pl.Int64,
        **dict.fromkeys(floats, pl.Float64),
        **dict.fromkeys((f"over_baseline{end}" for end in lift), pl.Float64),
        "rival": pl.String,
        **dict.fromkeys((f"over_rival{end}" for end in lift), pl.Float64),
    }
    rows = [_summary(entry, metric) for entry in result.entries for metric in entry.folds[0].metrics]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _summary(entry: EntryResult, metric: str) -> tuple[Any, ...]:
    known = has_metric(entry, metric)
    mean = mean_metric(entry.folds, metric) if known else None
    std = std_metric(entry.folds, metric) if known and len(entry.folds) > 1 else None
    low, high = entry.intervals.get(metric, (None, None))
    measured = (len(entry.folds), mean_metric(entry.validation, metric), mean, std, low, high)
    over_baseline, over_rival = _lift(entry.over_baseline.get(metric)), _lift(entry.over_rival.get(metric))
    return (entry.name, entry.track, metric, *measured, *over_baseline, entry.rival, *over_rival)


def _lift(lift: Lift | None) -> tuple[float | None, ...]:
    if lift is None:
        return (None,) * 6
    return (lift.difference, lift.low, lift.high, lift.relative, lift.p_value, lift.p_adjusted)


def values_of(result: ComparisonResult) -> dict[str, Any]:
    """Return what was found and how, without the values of single users."""
    return {
        "name": result.name,
        "dataset": dict(result.dataset),
        "protocol": dict(result.protocol),
        "metric": result.metric,
        "cutoffs": list(result.cutoffs),
        "baseline": result.baseline,
        "champion": result.champion,
        "correction": result.correction,
        "seconds": result.seconds,
        "held_out": result.held_out,
        "inspection": None if result.inspection is None else result.inspection.model_dump(mode="json"),
        "entries": {entry.name: _entry(entry) for entry in result.entries},
        "failed": {failed.name: asdict(failed) for failed in result.failed},
    }


def _entry(entry: EntryResult) -> dict[str, Any]:
    return {
        "track": entry.track,
        "model": entry.model,
        "attributes": dict(entry.attributes),
        "config": dict(entry.config),
        "searched": list(entry.study.searched),
        "trials": len(entry.study.trials),
        "seconds": entry.seconds,
        "validation": [_fold(fold) for fold in entry.validation],
        "test": [_fold(fold) for fold in entry.folds],
        "intervals": {metric: list(ends) for metric, ends in entry.intervals.items()},
        "over_baseline": _lifts(entry.over_baseline),
        "rival": entry.rival,
        "over_rival": _lifts(entry.over_rival),
        "notes": list(entry.study.notes),
        "inspections": [{"costs": asdict(one.costs), "slices": _slices(one.slices)} for one in entry.inspections],
    }


def _slices(slices: Mapping[str, SliceMetrics]) -> dict[str, Any]:
    return {name: asdict(one) for name, one in slices.items()}


def _fold(fold: FoldMetrics) -> dict[str, Any]:
    return {"seed": fold.seed, "split": fold.split, "metrics": dict(fold.metrics)}


def _lifts(lifts: Mapping[str, Lift]) -> dict[str, Any]:
    return {metric: asdict(lift) for metric, lift in lifts.items()}
