"""The tables of a comparison's report, as plain cells that the page only has to set."""

from __future__ import annotations

from coldray.experiments.comparison.config import Track
from coldray.experiments.comparison.result import ComparisonResult, EntryResult
from coldray.experiments.results import Lift, std_metric
from coldray.reports.comparison.words import TRACKS, shown_metrics, validation_mean
from coldray.reports.console import trial_counts
from coldray.reports.labels import (
    DASH,
    config_label,
    duration_label,
    mean_and_std,
    metric_label,
    metric_number,
)
from coldray.reports.modes import p_label, percent_label, signed
from coldray.reports.published import PublishedTable
from coldray.reports.tables import Cell, Table, measured_cell, number, published_and_measured


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
