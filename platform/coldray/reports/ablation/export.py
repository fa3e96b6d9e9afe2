"""An ablation as files: tidy tables, the configuration, figures, the report, and an archive of them all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from coldray.experiments.ablation.result import AblationResult, ModeResult
from coldray.experiments.results import mean_metric, std_metric
from coldray.reports.ablation.diagnostics import PANELS, diagnostic_figures
from coldray.reports.ablation.report import write_ablation_report
from coldray.reports.export_files import exporting, plain
from coldray.reports.modes import has_metric
from coldray.reports.style import save_figure

RESULTS = "ablation_results.csv"
SUMMARY = "ablation_summary.csv"
CONFIG = "config.json"
REPORT = "report.html"
_PICTURES = ("diagnostics.png", *(f"{panel.name}.png" for panel in PANELS))
_FILES = frozenset((RESULTS, SUMMARY, CONFIG, REPORT, *_PICTURES))


@dataclass(frozen=True)
class AblationFiles:
    """Where an ablation was written."""

    folder: Path
    archive: Path
    """All files of the folder in one zip file beside it."""
    results: Path
    summary: Path
    config: Path
    report: Path
    pictures: tuple[Path, ...]
    """The figure with all panels first."""


def export_ablation(result: AblationResult, folder: Path) -> AblationFiles:
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
    pictures = tuple(folder / name for name in _PICTURES)
    return AblationFiles(
        folder, archive, folder / RESULTS, folder / SUMMARY, folder / CONFIG, folder / REPORT, pictures
    )


def _write_files(result: AblationResult, folder: Path) -> None:
    results_table(result).write_csv(folder / RESULTS)
    summary_table(result).write_csv(folder / SUMMARY)
    text = json.dumps(_config(result), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    figures = diagnostic_figures(result)
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
    write_ablation_report(result, folder / REPORT, figures=figures)


def results_table(result: AblationResult) -> pl.DataFrame:
    """Return a row for each mode, seed, split and metric."""
    schema = {"mode": pl.String, "seed": pl.Int64, "split": pl.Int64, "metric": pl.String, "value": pl.Float64}
    rows = [
        (mode.name, fold.seed, fold.split, metric, float(value))
        for mode in result.modes
        for fold in mode.folds
        for metric, value in fold.metrics.items()
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def summary_table(result: AblationResult) -> pl.DataFrame:
    """Return a row for each mode and metric: spread over folds, interval over users, lift over the baseline."""
    floats = ("mean", "std", "low", "high", "lift", "lift_low", "lift_high", "relative_lift", "p_value", "p_adjusted")
    schema = {"mode": pl.String, "metric": pl.String, "folds": pl.Int64, **dict.fromkeys(floats, pl.Float64)}
    rows = [_summary(mode, metric) for mode in result.modes for metric in _metrics(mode)]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _metrics(mode: ModeResult) -> list[str]:
    """Return the metrics that every fold has."""
    names = mode.folds[0].metrics if mode.folds else ()
    return [name for name in names if has_metric(mode, name)]


def _summary(mode: ModeResult, metric: str) -> tuple[Any, ...]:
    std = std_metric(mode.folds, metric) if len(mode.folds) > 1 else None
    low, high = mode.intervals.get(metric, (None, None))
    lift = mode.lifts.get(metric)
    known = (
        (lift.difference, lift.low, lift.high, lift.relative, lift.p_value, lift.p_adjusted) if lift else (None,) * 6
    )
    return (mode.name, metric, len(mode.folds), mean_metric(mode.folds, metric), std, low, high, *known)


def _config(result: AblationResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "dataset": plain(result.dataset),
        "protocol": plain(result.protocol),
        "cutoffs": list(result.cutoffs),
        "correction": result.correction,
        "seconds": plain(result.seconds),
        "modes": {mode.name: plain(mode.config) for mode in result.modes},
    }
