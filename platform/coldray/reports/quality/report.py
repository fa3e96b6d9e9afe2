"""The report of a check of data: one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from coldray.experiments.data_check import DataCheck
from coldray.reports.labels import is_synthetic
from coldray.reports.page import render, save_page
from coldray.reports.pictures import pictures
from coldray.reports.quality.figures import left_out
from coldray.reports.quality.tables import (
    activity_table,
    dataset_table,
    factor_table,
    order_table,
    overlap_table,
    parts_table,
    rating_table,
)
from coldray.reports.quality.words import figure_words, findings_by_level, headline
from coldray.reports.tables import facts


def write_quality_report(check: DataCheck, path: Path, figures: Mapping[str, Figure]) -> Path:
    """Write the report of `check`, with its figures by name, to `path` and return the path.

    Raises
    ------
    OutputError
        If the folder cannot be created or written.
    """
    return save_page(quality_page(check, figures), path)


def quality_page(check: DataCheck, figures: Mapping[str, Figure]) -> str:
    """Return the report as one HTML page; nothing in `check` is trusted, every text is escaped."""
    return render(
        "quality.html",
        synthetic=is_synthetic(check),
        title=f"Data check of {check.dataset['name']}, split {check.split}",
        outcome=headline(check),
        findings=findings_by_level(check),
        parts=parts_table(check),
        overlap=overlap_table(check),
        order=order_table(check),
        activity=activity_table(check),
        ratings=rating_table(check),
        factors=factor_table(check),
        left_out=list(left_out(check).values()),
        figures=pictures(figures, figure_words(check)),
        protocol=facts("How the numbers came to be", check.protocol),
        dataset=dataset_table(check),
    )
