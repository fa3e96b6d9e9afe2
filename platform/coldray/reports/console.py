"""Reports in a terminal of 80 columns or more."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text as RichText

from coldray.reports.report import SYNTHETIC_LABEL, Callout, Cell, Columns, Part, Report, Table, Text

_WORD = 12
"""The longest word of a header that may make its column wider."""


def terminal(report: Report) -> Group:
    """Return the report, ready for ``rich.console.Console.print``: the outcome is the last that is read.

    Texts wrap inside their column, so that no number is cut. Values are never read as markup.
    """
    parts: list[RenderableType] = [RichText(report.title, "bold")]
    if report.synthetic:
        parts.append(RichText(SYNTHETIC_LABEL, "bold reverse"))
    for section in report.on("terminal"):
        if section.heading:
            parts += [RichText(), RichText(section.heading, "italic")]
        for part in section.parts:
            parts += _lines(part)
    return Group(*parts, RichText(report.outcome))


def _lines(part: Part) -> Iterator[RenderableType]:
    """Yield what a terminal has of a part; figures and links are for pages."""
    if isinstance(part, Text):
        yield RichText(part.words)
    elif isinstance(part, Callout):
        for sentence in part.sentences:
            label = [(f"{part.label}: ", part.style)] if part.label else []
            yield RichText.assemble(*label, (sentence, "" if part.label else part.style))
    elif isinstance(part, Table | Columns):
        for table in part.tables if isinstance(part, Columns) else (part,):
            if table.caption:
                yield RichText(table.caption, "italic")
            yield _table(table)


def _table(table: Table) -> RichTable:
    shown = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_header=bool(table.header))
    marked = table.highlighted is not None
    if marked:
        shown.add_column("")
    for place, cells in enumerate(zip(*table.rows, strict=True)):
        head = table.header[place] if table.header else Cell("")
        widest = max(len(cell.text) for cell in cells)
        shown.add_column(_head(head, widest), justify="right" if head.is_number else "left", overflow="fold")
    for row, cells in enumerate(table.rows):
        chosen = row == table.highlighted
        mark = (RichText("→" if chosen else ""),) if marked else ()
        shown.add_row(*mark, *map(_cell, cells), style="bold" if chosen else "")
    return shown


def _cell(cell: Cell) -> RichText:
    return RichText.assemble(cell.text, (f"\n{cell.note}", "dim")) if cell.note else RichText(cell.text)


def _head(head: Cell, widest: int) -> RichText:
    """Return a header no wider than its column of numbers needs, so that a long name leaves room to the others."""
    if head.is_number:
        words = min(max(map(len, head.text.split()), default=0), _WORD)
        head = Cell("\n".join(textwrap.wrap(head.text, max(widest, words, 1))), head.note)
    return _cell(head)
