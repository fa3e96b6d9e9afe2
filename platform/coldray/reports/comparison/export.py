"""A comparison as files: tidy tables, everything as JSON, figures, the report, and an archive of them all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from coldray.experiments.comparison.result import ComparisonResult, EntryResult
from coldray.experiments.inspection.slices import SliceMetrics
from coldray.experiments.results import FoldMetrics, Lift, mean_metric, std_metric
from coldray.reports.comparison.figures import FIGURES, comparison_figures
from coldray.reports.comparison.report import write_comparison_report
from coldray.reports.export_files import exporting, plain
from coldray.reports.modes import has_metric
from coldray.reports.style import save_figure

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
