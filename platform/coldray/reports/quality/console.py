"""What a check of data found, for a terminal of 80 columns or more."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as ConsoleTable
from rich.text import Text

from coldray.experiments.data_check import DataCheck
from coldray.experiments.data_findings import Level
from coldray.reports.labels import is_synthetic
from coldray.reports.page import SYNTHETIC_LABEL
from coldray.reports.quality.report import factor_table, parts_table
from coldray.reports.quality.words import headline
from coldray.reports.tables import Table

_STYLES: dict[Level, str] = {"problem": "bold red", "warning": "yellow", "note": "dim"}


def console_check(check: DataCheck) -> Group:
    """Return the parts, the factors and the findings, ready for ``rich.console.Console.print``.

    Values are never read as markup.
    """
    parts: list[RenderableType] = [Text(f"{check.dataset['name']}, split {check.split}", "bold")]
    if is_synthetic(check):
        parts.append(Text(SYNTHETIC_LABEL, "bold reverse"))
    parts += [Text(headline(check)), _table(parts_table(check))]
    if (factors := factor_table(check)) is not None:
        parts += [Text(factors.caption, "italic"), _table(factors)]
    for finding in check.findings:
        label = Text(f"{finding.level}: ", _STYLES[finding.level])
        parts.append(Text.assemble(label, finding.sentence))
    return Group(*parts)


def _table(table: Table) -> ConsoleTable:
    shown = ConsoleTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, head in enumerate(table.header):
        shown.add_column(head.text.lower(), justify="left" if place == 0 else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell.text) for cell in row))
    return shown
