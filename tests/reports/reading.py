"""Reports as a reader has them: their words, their tables, their pages and what a terminal shows."""

import io
import re
from html.parser import HTMLParser

from rich.console import Console

from coldray.reports.console import terminal
from coldray.reports.report import Callout, Columns, Gallery, Links, Report, Table, Text

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """The page's elements and text; fails where a tag is not closed in its order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def tables(report: Report, place="page") -> list[Table]:
    """Return all tables that are shown in a place."""
    parts = [part for section in report.on(place) for part in section.parts]
    columns = [list(part.tables) if isinstance(part, Columns) else [part] for part in parts]
    return [part for group in columns for part in group if isinstance(part, Table)]


def table(report: Report, caption: str) -> Table:
    """Return the table of the page whose caption begins so."""
    (found,) = [one for one in tables(report) if one.caption.startswith(caption)]
    return found


def cells(shown: Table) -> dict[str, list[str]]:
    """Return the texts of each row by its name."""
    return {row[0].text: [cell.text for cell in row[1:]] for row in shown.rows}


def words(report: Report, place="page") -> str:
    """Return all that is written in a place, in its order, with plain blanks."""
    found = [report.title, report.outcome]
    for section in report.on(place):
        found.append(section.heading)
        for part in section.parts:
            if isinstance(part, Text):
                found.append(part.words)
            elif isinstance(part, Callout):
                found += part.sentences
            elif isinstance(part, Links):
                found += [part.words, *part.targets]
            elif isinstance(part, Gallery):
                found += [picture.caption for picture in part.pictures]
            else:
                for shown in part.tables if isinstance(part, Columns) else (part,):
                    rows = [*([shown.header] if shown.header else []), *shown.rows]
                    found += [shown.caption, *(text for row in rows for cell in row for text in (cell.text, cell.note))]
    return re.sub(r"\s+", " ", " ".join(word for word in found if word)).replace("\u00a0", " ")


def printed(report: Report, width: int = 80) -> str:
    """Return what a terminal shows."""
    console = Console(width=width, file=io.StringIO())
    console.print(terminal(report))
    return console.file.getvalue()
