"""The report of an ablation: one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from coldray.experiments.ablation.result import AblationResult
from coldray.reports.ablation.diagnostics import diagnostic_figures
from coldray.reports.ablation.tables import (
    configurations,
    lifts,
    modes_measured,
    protocol_differences,
    published_beside,
)
from coldray.reports.ablation.words import edge_findings, headline, panel_words, verdicts
from coldray.reports.labels import duration_label, is_synthetic
from coldray.reports.page import render, save_page
from coldray.reports.pictures import pictures
from coldray.reports.published import no_comparison, published_for
from coldray.reports.tables import dataset_facts, facts


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
