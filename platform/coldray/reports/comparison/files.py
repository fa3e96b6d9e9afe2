"""The data in the export of a comparison: tidy tables, and everything that was found."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import polars as pl

from coldray.experiments.comparison.result import ComparisonResult, EntryResult
from coldray.experiments.results import FoldMetrics, mean_metric, std_metric
from coldray.reports.tables import fold_table, has_metric, lift_values


def results_table(result: ComparisonResult) -> pl.DataFrame:
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
    rows = [_summary(entry, metric) for entry in result.entries for metric in entry.folds[0].metrics]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _summary(entry: EntryResult, metric: str) -> tuple[Any, ...]:
    known = has_metric(entry.folds, metric)
    mean = mean_metric(entry.folds, metric) if known else None
    std = std_metric(entry.folds, metric) if known and len(entry.folds) > 1 else None
    low, high = entry.intervals.get(metric, (None, None))
    measured = (len(entry.folds), mean_metric(entry.validation, metric), mean, std, low, high)
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
    return [{"seed": fold.seed, "split": fold.split, "metrics": fold.metrics} for fold in folds]
