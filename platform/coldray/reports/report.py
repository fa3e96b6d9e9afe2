"""A report: sections of text, tables, figures and callouts, in which everything that coldray tells of a result is told.

Each kind of result has one function that returns its report; how a report looks as a page, in a terminal and as files
is written once, in :mod:`~coldray.reports.console` and :mod:`~coldray.reports.export`.
Nothing in a report is trusted: texts are escaped, and never read as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

import polars as pl
from matplotlib.figure import Figure

from coldray.reports.style import as_png

SYNTHETIC_LABEL = "Synthetic data: generated sample, not a real dataset"
PAGE = "report.html"


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    note: str = ""
    """Printed small below the text."""
    title: str = ""
    """The whole of what the text abbreviates."""
    is_number: bool = False


def number(text: str, note: str = "") -> Cell:
    """Return the cell of a number."""
    return Cell(text, note=note, is_number=True)


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    words: str


@dataclass(frozen=True)
class Table:
    """A table: the first cell of each row names the row."""

    kind: ClassVar[str] = "table"
    caption: str
    header: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    highlighted: int | None = None
    """Position of the row of what was chosen."""
    look: Literal["", "dense", "facts", "messages"] = ""
    """On a page: small; names and values; wide texts."""


@dataclass(frozen=True)
class Columns:
    """Tables beside each other where there is room."""

    kind: ClassVar[str] = "columns"
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Callout:
    """Sentences that are to be noticed one by one."""

    kind: ClassVar[str] = "callout"
    sentences: tuple[str, ...]
    label: str = ""
    """Before each of them in a terminal."""
    style: str = ""
    """Of the label in a terminal, or of the sentences where there is none."""


@dataclass(frozen=True)
class Links:
    """Where other reports are, by their names."""

    kind: ClassVar[str] = "links"
    words: str
    targets: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Picture:
    """One figure, drawn when it is needed, and once."""

    name: str
    """Of its file, without the ending."""
    draw: Callable[[], Figure]
    caption: str
    alt: str
    """For those who cannot see it."""

    @cached_property
    def figure(self) -> Figure:
        """The figure itself."""
        return self.draw()

    @cached_property
    def png(self) -> bytes:
        """What a page shows of it, and a file holds."""
        return as_png(self.figure)


@dataclass(frozen=True)
class Gallery:
    """Figures."""

    kind: ClassVar[str] = "gallery"
    pictures: tuple[Picture, ...]


Part: TypeAlias = Text | Table | Columns | Callout | Links | Gallery


@dataclass(frozen=True)
class Section:
    """What belongs together under one heading; parts that are None are left out."""

    heading: str
    given: tuple[Part | None, ...]
    shown: Literal["everywhere", "page", "terminal", "files"] = "everywhere"
    """Figures of every section are among the files, those of ``files`` there alone."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """Those that have something to show."""
        return tuple(part for part in self.given if part is not None and any(vars(part).values()))


@dataclass(frozen=True)
class Report:
    """All that is told of a result."""

    title: str
    outcome: str
    """The result in one sentence."""
    sections: tuple[Section, ...]
    synthetic: bool
    """Whether it is of generated data, which is told in a banner."""
    files: Mapping[str, pl.DataFrame | Mapping[str, Any]] = field(default_factory=dict)
    """What an export has beside page and figures, by file name: tables for CSV, values for JSON."""
    formats: tuple[str, ...] = (".png",)
    """Of the figures in an export."""
    names: tuple[str, ...] = ()
    """Of all figures that a report of this kind can have."""

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The figures of all sections."""
        galleries = (part for section in self.sections for part in section.parts if isinstance(part, Gallery))
        return tuple(picture for gallery in galleries for picture in gallery.pictures)

    def on(self, place: Literal["page", "terminal"]) -> tuple[Section, ...]:
        """Return the sections that are shown on a page or in a terminal and have something to show there."""
        return tuple(section for section in self.sections if section.shown in ("everywhere", place) and section.parts)
