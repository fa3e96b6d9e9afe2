"""What is told of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from coldray.experiments.comparison.config import Track
from coldray.experiments.comparison.result import ComparisonResult, EntryResult
from coldray.experiments.results import FoldMetrics, Lift, common_metrics, mean_metric, std_metric
from coldray.reports.comparison.figures import FIGURES, comparison_pictures
from coldray.reports.comparison.inspection import costs, nearest_items, slices
from coldray.reports.comparison.words import TRACKS, by_ratings, edge_findings, findings, headline, shown_metrics
from coldray.reports.labels import (
    DASH,
    config_label,
    counted,
    duration_label,
    is_synthetic,
    metric_label,
    metric_number,
    p_label,
    p_number,
    percent_label,
    promoted,
    signed,
)
from coldray.reports.report import Callout, Cell, Gallery, Report, Section, Table, Text, number
from coldray.reports.study.report import trial_counts
from coldray.reports.tables import (
    Measured,
    beside_published,
    fold_table,
    has_metric,
    known_mean,
    lift_values,
    measured_cell,
    metric_header,
    origin,
    split_table,
    spread,
)
from coldray.reports.tasks import tasks_in_short, tasks_section
from coldray.reports.warming import warming_in_short, warming_section

_OF_LISTS = (
    "HR@k is the hits among the first k, divided by the smaller of k and the number of the user’s test items; NDCG@k "
    "weighs a hit by its rank."
)
_OF_RATINGS = (
    "RMSE and MAE are the errors of predicted ratings, the lower the better: over all test ratings of items that "
    "somebody rated in train, so that a user with many weighs more. A difference below 0 is an improvement. Intervals "
    "draw users; p is of the mean difference in squared, or absolute, errors over users."
)


def comparison_report(result: ComparisonResult) -> Report:
    """Return the report of a comparison."""
    return Report(
        title=f"{result.name}: comparison on {result.dataset.get('name', 'an unnamed dataset')}",
        outcome=headline(result),
        sections=tuple(section(result) for section in _SECTIONS),
        synthetic=is_synthetic(result),
        files={
            "results.csv": _results_table(result),
            "summary.csv": summary_table(result),
            "results.json": values_of(result),
        },
        formats=(".png", ".svg"),
        names=FIGURES,
    )


def _in_short(result: ComparisonResult) -> Section:
    splits = counted(len(result.entries[0].folds), "split")
    return Section("", (Text(f"tested once on {splits}"),), "terminal")


def _tracks_in_short(result: ComparisonResult) -> Section:
    return Section("", tuple(_track_in_short(result, track) for track in _tracks(result)), "terminal")


def _tracks(result: ComparisonResult) -> list[Track]:
    return [track for track in TRACKS if result.of_track(track)]


def _track_in_short(result: ComparisonResult, track: Track) -> Table:
    """Return what the entries of a track reach, and their differences to the baseline."""
    leading, *others = shown_metrics(result)
    rows = []
    for entry in result.of_track(track):
        lift = entry.over_baseline.get(leading)
        values = (
            spread(entry.folds, leading),
            *(metric_number(known_mean(entry.folds, metric)) for metric in others),
            signed(lift.difference, 4) if lift else DASH,
            p_number(lift.p_adjusted) if lift else DASH,
        )
        rows.append((Cell(entry.name), *map(number, values)))
    header = (*metric_header((leading, *others), "entry"), number(f"over {result.baseline}"), number("adj. p"))
    return Table(TRACKS[track], header, tuple(rows), _champion_row(result, result.of_track(track)))


def _to_be_noticed(result: ComparisonResult) -> Section:
    given = (
        Callout(tuple(edge_findings(result)), style="yellow"),
        Callout(tuple(f"{failed.name} failed: {failed.reason}" for failed in result.failed), style="red"),
        Callout(tuple(promoted(result).values()), "Registry"),
    )
    return Section("", given, "terminal")


def _findings(result: ComparisonResult) -> Section:
    return Section("", (Callout(tuple(findings(result))),), "page")


def _entries(result: ComparisonResult) -> Section:
    said = (
        f"Every entry was tuned on validation {result.held_out} and tested once, all on the same splits and users. "
        f"{_OF_RATINGS if by_ratings(result) else _OF_LISTS}"
    )
    tables = [find(result, track) for track in _tracks(result) for find in (_measured, _differences)]
    return Section(f"Entries on the test {result.held_out}", (Text(said), *tables, _failures(result)), "page")


def _measured(result: ComparisonResult, track: Track) -> Table:
    """Return validation and test metrics of a track's entries: ``mean ± std`` over splits, the interval below."""
    metrics, entries = shown_metrics(result), result.of_track(track)
    rows = tuple(
        (
            Cell(entry.name, note=entry.model if entry.model != entry.name else ""),
            number(spread(entry.validation, result.metric)),
            *(measured_cell(entry.folds, entry.intervals, metric) for metric in metrics),
            number(str(len(entry.study.trials)), note=_odd_trials(entry)),
            number(duration_label(entry.seconds)),
        )
        for entry in entries
    )
    header = (
        Cell("Entry"),
        number(metric_label(result.metric), note="validation"),
        *metric_header(metrics, note="test"),
        number("Trials"),
        number("Time"),
    )
    n_splits = len(entries[0].folds)
    over = f"Mean ± standard deviation over {n_splits} splits" if n_splits > 1 else "Values of one split"
    caption = f"{TRACKS[track]}. {over}; below, the 95 % interval over users"
    return Table(caption, header, rows, _champion_row(result, entries))


def _odd_trials(entry: EntryResult) -> str:
    """Return how trials ended where not all of them finished."""
    odd = sum(trial.status != "finished" for trial in entry.study.trials)
    return trial_counts(entry.study).partition(": ")[2] if odd else ""


def _champion_row(result: ComparisonResult, entries: Sequence[EntryResult]) -> int | None:
    return next((row for row, entry in enumerate(entries) if entry.name == result.champion), None)


def _differences(result: ComparisonResult, track: Track) -> Table | None:
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
        *metric_header(metrics, "Entry", note=f"over {result.baseline}"),
        Cell("Best other", note="of the track, on validation"),
        number(metric_label(result.metric), note="over it"),
    )
    caption = (
        "Paired differences over the same users; below, the 95 % interval and the two-sided p after the correction "
        f"for all comparisons ({result.correction})"
    )
    return Table(caption, header, rows, _champion_row(result, compared))


def _difference(lift: Lift | None) -> Cell:
    if lift is None:
        return number(DASH)
    between = f"{signed(lift.low, 4)} to {signed(lift.high, 4)}, {p_label(lift.p_adjusted)}"
    return number(f"{signed(lift.difference, 4)} ({percent_label(100 * lift.relative)})", note=between)


def _failures(result: ComparisonResult) -> Table | None:
    """Return the entries that failed with their reasons; None when there is none."""
    rows = tuple((Cell(failed.name), Cell(failed.track), Cell(failed.reason)) for failed in result.failed)
    header = (Cell("Entry"), Cell("Track"), Cell("Reason"))
    return Table("Failed entries and what stopped them", header, rows, look="messages") if rows else None


def _warming(result: ComparisonResult) -> Section:
    return warming_section(_measured_models(result), synthetic=is_synthetic(result))


def _warming_in_short(result: ComparisonResult) -> Section:
    return warming_in_short(_measured_models(result))


def _mixed(result: ComparisonResult) -> Section:
    return tasks_section(_measured_models(result))


def _mixed_in_short(result: ComparisonResult) -> Section:
    return tasks_in_short(_measured_models(result))


def _measured_models(result: ComparisonResult) -> list[Measured]:
    return [Measured(entry.name, entry.folds, entry.study.test_intervals) for entry in result.entries]


def _slices(result: ComparisonResult) -> Section:
    return Section("Cold and warm", (slices(result),), "page")


def _costs(result: ComparisonResult) -> Section:
    return Section("What it costs", (costs(result),), "page")


def _figures(result: ComparisonResult) -> Section:
    return Section("Figures", (Gallery(comparison_pictures(result)),), "page")


def _nearest(result: ComparisonResult) -> Section:
    said = (
        "Some of the items of the maps, and the items that each model holds nearest to them. No number says whether "
        "they belong together; a person may."
    )
    tables = nearest_items(result)
    return Section("Nearest items", (Text(said), *tables) if tables else (), "page")


def _protocol(result: ComparisonResult) -> Section:
    took = Text(f"The comparison took {duration_label(result.seconds)}.")
    told = origin({**result.protocol, **promoted(result)}, result.dataset)
    return Section("Protocol and data", (took, told), "page")


def _configurations(result: ComparisonResult) -> Section:
    return Section("Configurations and splits", (_configuration_table(result), _splits(result)), "page")


def _configuration_table(result: ComparisonResult) -> Table:
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
    return Table("Configuration of each entry's winner", header, rows, look="dense")


def _splits(result: ComparisonResult) -> Table:
    """Return the test metric that decided, split by split and entry by entry."""
    tested = zip(*(entry.folds for entry in result.entries), strict=True)
    rows = ((folds[0], [fold.metrics[result.metric] for fold in folds]) for folds in tested)
    header = (Cell("Split"), *(number(entry.name) for entry in result.entries))
    return split_table(f"Test {metric_label(result.metric)} of each split", header, rows)


def _published(result: ComparisonResult) -> Section:
    measured = {entry.name: (entry.folds, entry.intervals) for entry in result.entries}
    return beside_published(result.dataset, measured, result.held_out)


_SECTIONS = (
    _in_short,
    _tracks_in_short,
    _warming_in_short,
    _mixed_in_short,
    _to_be_noticed,
    _findings,
    _entries,
    _warming,
    _mixed,
    _slices,
    _costs,
    _figures,
    _nearest,
    _protocol,
    _configurations,
    _published,
)
"""All sections, in their order."""


def _results_table(result: ComparisonResult) -> pl.DataFrame:
    """Return a row for each entry, part (validation or test), seed, split and metric."""
    parts = (
        ((entry.name, entry.track, part), folds)
        for entry in result.entries
        for part, folds in (("validation", entry.validation), ("test", entry.folds))
    )
    return fold_table(("entry", "track", "part"), parts)


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
    rows = [_summary(entry, metric) for entry in result.entries for metric in common_metrics(entry.folds)]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _summary(entry: EntryResult, metric: str) -> tuple[Any, ...]:
    known = has_metric(entry.folds, metric)
    mean = mean_metric(entry.folds, metric) if known else None
    std = std_metric(entry.folds, metric) if known and len(entry.folds) > 1 else None
    low, high = entry.intervals.get(metric, (None, None))
    validated = mean_metric(entry.validation, metric) if has_metric(entry.validation, metric) else None
    measured = (len(entry.folds), validated, mean, std, low, high)
    over_baseline, over_rival = entry.over_baseline.get(metric), entry.over_rival.get(metric)
    named = (entry.name, entry.track, metric)
    return (*named, *measured, *lift_values(over_baseline), entry.rival, *lift_values(over_rival))


def values_of(result: ComparisonResult) -> dict[str, Any]:
    """Return what was found and how, without the values of single users."""
    return {
        "name": result.name,
        "dataset": result.dataset,
        "protocol": result.protocol,
        "metric": result.metric,
        "cutoffs": result.cutoffs,
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
        "attributes": entry.attributes,
        "config": entry.config,
        "searched": entry.study.searched,
        "trials": len(entry.study.trials),
        "seconds": entry.seconds,
        "validation": _folds(entry.validation),
        "test": _folds(entry.folds),
        "intervals": entry.intervals,
        "over_baseline": {metric: asdict(lift) for metric, lift in entry.over_baseline.items()},
        "rival": entry.rival,
        "over_rival": {metric: asdict(lift) for metric, lift in entry.over_rival.items()},
        "notes": entry.study.notes,
        "inspections": [
            {"costs": asdict(one.costs), "slices": {name: asdict(part) for name, part in one.slices.items()}}
            for one in entry.inspections
        ],
    }


def _folds(folds: tuple[FoldMetrics, ...]) -> list[dict[str, Any]]:
    return [{"seed": fold.seed, "split": fold.split, "metrics": fold.every} for fold in folds]
