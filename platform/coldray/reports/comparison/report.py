"""The report of a comparison: one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from coldray.experiments.comparison.result import ComparisonResult
from coldray.reports.comparison.figures import comparison_figures
from coldray.reports.comparison.inspection_tables import costs, nearest_items, slices
from coldray.reports.comparison.tables import configurations, failures, published_beside, splits, tracks
from coldray.reports.comparison.words import figure_words, findings, headline
from coldray.reports.labels import duration_label, is_synthetic, promoted
from coldray.reports.page import render, save_page
from coldray.reports.pictures import pictures
from coldray.reports.published import no_comparison, published_for
from coldray.reports.tables import dataset_facts, facts


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
