"""An ablation as files: tidy tables, the configuration, figures, the report, and an archive of them all."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from coldray.atomic import replacing, replacing_folder
from coldray.errors import OutputError
from coldray.plots.ablation_report import write_ablation_report
from coldray.plots.diagnostics import PANELS, diagnostic_figures
from coldray.plots.modes import has_metric
from coldray.plots.style import save_figure
from coldray.tuning.ablation_result import AblationResult, ModeResult
from coldray.tuning.results import mean_metric, std_metric

RESULTS = "ablation_results.csv"
SUMMARY = "ablation_summary.csv"
CONFIG = "config.json"
REPORT = "report.html"
_PICTURES = ("diagnostics.png", *(f"{panel.name}.png" for panel in PANELS))
_FILES = frozenset((RESULTS, SUMMARY, CONFIG, REPORT, *_PICTURES))
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip file can hold


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
    archive = folder.with_name(f"{folder.name}.zip")
    _check_free(folder, archive)
    with replacing(archive) as packed, replacing_folder(folder) as made:
        _write_files(result, made)
        _pack(made, packed, folder.name)
    pictures = tuple(folder / name for name in _PICTURES)
    return AblationFiles(
        folder, archive, folder / RESULTS, folder / SUMMARY, folder / CONFIG, folder / REPORT, pictures
    )


def _check_free(folder: Path, archive: Path) -> None:
    """Refuse to replace what is no earlier export."""
    if archive.is_dir():
        raise OutputError(f"Cannot write {archive}: it is a folder. Choose another folder.")
    try:
        found = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise OutputError(f"Cannot write {folder}: {error.strerror}. Choose another folder.") from error
    foreign = [name for name in found if name not in _FILES]
    if foreign:
        raise OutputError(
            f"Cannot write {folder}: it holds {foreign[0]!r}, which an export would delete. Choose an empty or a new "
            "folder."
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
        "dataset": _plain(result.dataset),
        "protocol": _plain(result.protocol),
        "cutoffs": list(result.cutoffs),
        "correction": result.correction,
        "seconds": _plain(result.seconds),
        "modes": {mode.name: _plain(mode.config) for mode in result.modes},
    }


def _plain(value: Any) -> Any:
    """Return `value` as JSON has it; what JSON has no form for, as text."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, str | int):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


def _pack(folder: Path, archive: Path, name: str) -> None:
    """Write the files of `folder` as `name` to `archive`, by name and without times, so that the bytes repeat."""
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(f"{name}/{path.name}", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whichever system this is
            entry.external_attr = 0o100644 << 16
            packed.writestr(entry, path.read_bytes())
