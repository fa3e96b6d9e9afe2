"""The report of studies of several categories: a page beside those of the categories, and the console's table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from matplotlib.figure import Figure
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coldray.data.sources.amazon import file_stem
from coldray.experiments.categories import CategoryResults
from coldray.reports.categories.figures import category_words
from coldray.reports.categories.tables import (
    categories_synthetic,
    edge_findings,
    final_metrics,
    headline,
    left_out,
    overview,
)
from coldray.reports.page import SYNTHETIC_LABEL, render, save_page
from coldray.reports.pictures import pictures
from coldray.reports.tables import facts


def write_category_report(result: CategoryResults, path: Path, figures: Mapping[str, Figure]) -> Path:
    """Write the report of `result` to `path`, beside the folders of the categories, and return the path.

    Raises
    ------
    OutputError
        If the folder cannot be created or written.
    """
    return save_page(category_page(result, figures), path)


def category_page(result: CategoryResults, figures: Mapping[str, Figure]) -> str:
    """Return the report as one HTML page; nothing in `result` is trusted, every text is escaped."""
    return render(
        "categories.html",
        synthetic=categories_synthetic(result),
        title=f"{result.name}: {result.first.model} by category",
        outcome=headline(result),
        overview=overview(result),
        left_out=left_out(result),
        edges=edge_findings(result),
        linked=[_link(result, category) for category in result.studies],
        final=final_metrics(result),
        figures=pictures(figures, category_words(result)),
        protocol=facts("How the numbers came to be, in the first category", result.first.protocol),
    )


def _link(result: CategoryResults, category: str) -> tuple[str, str]:
    """Return the name of a category's report and where it is, seen from this one."""
    place, origin = f"{quote(file_stem(category))}/report.html", result.origins.get(category)
    return (category, place) if origin is None else (f"{category}, of {origin}", f"../{quote(origin)}/{place}")


def console_categories(result: CategoryResults) -> Group:
    """Return a table with a row for each category and the headline, for a terminal."""
    shown = overview(result)
    table = Table(box=box.SIMPLE_HEAD)
    places = [place for place, head in enumerate(shown.header) if head.text not in ("users", "items")]
    for head in (shown.header[place] for place in places):
        table.add_column(head.text, justify="right" if head.is_number else "left", overflow="fold")
    for row in shown.rows:
        table.add_row(*(Text(row[place].text) for place in places))
    parts: list[RenderableType] = [Text(f"{result.name}: {result.first.model} by category", "bold")]
    if categories_synthetic(result):
        parts.append(Text(SYNTHETIC_LABEL, "bold reverse"))
    parts += [table, *(Text(words, "yellow") for words in edge_findings(result))]
    parts += [*(Text(f"{name} left out: {why}", "red") for name, why in result.left_out.items())]
    return Group(*parts, Text(headline(result)))
