"""The report of an ablation: one HTML page that needs no other file and no network.

An export has it beside tidy tables, the configuration, the figures, and an archive of them all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from coldray.experiments.ablation.result import AblationResult, ModeResult
from coldray.experiments.results import mean_metric, std_metric
from coldray.reports.ablation.diagnostics import PANELS, diagnostic_figures
from coldray.reports.ablation.words import edge_findings, headline, panel_words, verdicts
from coldray.reports.export_files import exporting, plain
from coldray.reports.labels import (
    DASH,
    counted,
    duration_label,
    is_synthetic,
    metric_label,
    parameter_label,
    value_label,
)
from coldray.reports.modes import change, has_metric, long_cutoff, p_label, percent_label, short_cutoff
from coldray.reports.page import render, save_page
from coldray.reports.pictures import pictures
from coldray.reports.published import HETREC, PublishedTable, no_comparison, published_for
from coldray.reports.style import save_figure
from coldray.reports.tables import Cell, Table, dataset_facts, facts, measured_cell, number, published_and_measured


def compared_metrics(result: AblationResult) -> tuple[str, ...]:
    """Return HR and NDCG of the short and of the long list, as far as some mode has them."""
    cutoffs = [cutoff for cutoff in (short_cutoff(result), long_cutoff(result)) if cutoff is not None]
    names = [f"{base}@{cutoff}" for cutoff in cutoffs for base in ("hr", "ndcg")]
    return tuple(name for name in names if any(has_metric(mode, name) for mode in result.modes))


def modes_measured(result: AblationResult) -> Table:
    """Return the test metrics of each mode: ``mean ± std`` over folds, the interval over users below."""
    metrics = compared_metrics(result)
    rows = (
        (Cell(mode.name), *(measured_cell(mode.folds, mode.intervals, metric) for metric in metrics))
        for mode in result.modes
    )
    n_folds = max(len(mode.folds) for mode in result.modes)
    spread = "mean ± standard deviation" if n_folds > 1 else "value"
    caption = f"Test metrics of each mode, {spread} over {counted(n_folds, 'fold')}; below, 95 % intervals over users"
    return Table(caption, _header("Mode", metrics), tuple(rows), highlighted=len(result.modes) - 1)


def lifts(result: AblationResult) -> Table | None:
    """Return the change from the baseline with its interval and adjusted p; None when nothing was compared."""
    metrics = compared_metrics(result)
    compared = [mode for mode in result.modes[1:] if any(metric in mode.lifts for metric in metrics)]
    if not compared:
        return None
    rows = tuple((Cell(mode.name), *(_lift_cell(result, mode, metric) for metric in metrics)) for mode in compared)
    caption = (
        f"Lift over {result.modes[0].name}; below, its 95 % interval and the two-sided p after the correction for "
        f"all comparisons ({result.correction})"
    )
    return Table(caption, _header("Mode", metrics), rows)


def _lift_cell(result: AblationResult, mode: ModeResult, metric: str) -> Cell:
    ends, lift = change(result, mode, metric), mode.lifts.get(metric)
    if ends is None or lift is None:
        return number(DASH)
    value, low, high = (percent_label(end) for end in ends)
    return number(value, note=f"{low.removesuffix(' %')} to {high}, {p_label(lift.p_adjusted)}")


def _header(first: str, metrics: tuple[str, ...]) -> tuple[Cell, ...]:
    return (Cell(first), *(number(metric_label(metric)) for metric in metrics))


def configurations(result: AblationResult) -> Table:
    """Return every parameter of every mode; a dash where a mode does not have it."""
    flat = [dict(_flat(mode.config)) for mode in result.modes]
    names = dict.fromkeys(name for config in flat for name in config)
    rows = (
        (
            Cell(parameter_label(name)),
            *(Cell(value_label(config[name]) if name in config else DASH) for config in flat),
        )
        for name in names
    )
    header = (Cell("Parameter"), *(Cell(mode.name) for mode in result.modes))
    return Table("Configuration of each mode", header, tuple(rows))


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the parameters of nested configurations by dotted names."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def published_beside(result: AblationResult, table: PublishedTable) -> Table:
    """Return the published results and after them those of each mode."""
    return published_and_measured(table, {mode.name: (mode.folds, mode.intervals) for mode in result.modes})


def protocol_differences(result: AblationResult) -> Table:
    """Return the published protocol beside the one here, row by row, with what differs."""
    name, users, items = (result.dataset.get(key) for key in ("name", "n_users", "n_items"))
    clicked = None if items is None else items - result.dataset.get("n_unclicked_items", 0)
    here = counted(max(len(mode.folds) for mode in result.modes), "fold")
    rows = [
        _compared("dataset", HETREC.title, str(name or DASH), name == HETREC.dataset),
        _compared("users", f"{HETREC.n_users:,}", _count(users), users == HETREC.n_users),
        _compared("items", f"{HETREC.n_items:,}", _count(clicked), clicked == HETREC.n_items),
        _compared("averages", HETREC.protocol, f"averages over {here}", None),
    ]
    here_only = ((key.replace("_", " "), str(text)) for key, text in result.protocol.items())
    rows += [_compared(what, "see the source", text, None) for what, text in here_only]
    header = (Cell("What"), Cell("Published"), Cell("Here"), Cell("Verdict"))
    return Table("Published protocol and the one here", header, tuple(rows))


def _compared(what: str, published: str, here: str, same: bool | None) -> tuple[Cell, ...]:
    verdict = "compare" if same is None else "same" if same else "differs"
    return Cell(what), Cell(published), Cell(here), Cell(verdict)


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else DASH


def write_ablation_report(result: AblationResult, path: Path, *, figures: Mapping[str, Figure] | None = None) -> Path:
    """Write the report of `result` to `path` and return the path.

    Parameters
    ----------
    result
        The ablation. Nothing in it is trusted: every text is escaped.
    path
        The file to write, completely or not at all.
    figures
        Figures by name, as of :func:`coldray.reports.ablation.diagnostics.diagnostic_figures`, which makes them when
        they are not given.

    Raises
    ------
    OutputError
        If the folder cannot be created or written.
    """
    return save_page(ablation_page(result, diagnostic_figures(result) if figures is None else figures), path)


def ablation_page(result: AblationResult, figures: Mapping[str, Figure]) -> str:
    """Return the report as one HTML page; each panel is shown by itself, not once more in the figure of all."""
    panels = {name: figure for name, figure in figures.items() if name != "diagnostics"}
    table = published_for(result.dataset)
    note = no_comparison(result.dataset) if table is None else f"Published: {table.source}; {table.protocol}."
    return render(
        "ablation.html",
        synthetic=is_synthetic(result),
        title=f"{result.name}: ablation on {result.dataset.get('name', 'an unnamed dataset')}",
        outcome=headline(result),
        verdicts=[*verdicts(result), *edge_findings(result)],
        measured=modes_measured(result),
        lifts=lifts(result),
        protocol=facts("How the numbers came to be", result.protocol),
        dataset=dataset_facts(result),
        duration=duration_label(result.seconds),
        configurations=configurations(result),
        figures=pictures(panels, panel_words(result)),
        published=None if table is None else published_beside(result, table),
        published_note=note,
        differences=protocol_differences(result),
    )


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
