"""Delimited text files: looked at in one pass over their bytes, then read so that every line is a row or an error.

The pass counts lines, separators and quotes. A file without a quote whose every line has as many separators as the
first is left to polars, quotes off; its rows are counted against the lines. Every other file is read line by line by
Python's ``csv``, strictly: a quote that opens no field, a field too many or too few, is an error with its line. A file
in which quotes enclose nothing (``12" single``) is read with quotes as characters, and that is told.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from coldray.core.errors import DataFileError, DataFormatError
from coldray.core.spelling import choices
from coldray.data.tables.lines import SEPARATORS, LineCounts, divided, first_line, text_lines

_BATCH = 1 << 16
"""Rows that are put in columns at a time where Python reads them."""
_MOST_BLANK = 10_000
"""Blank lines that are left out by their number; of more, the file is read line by line."""


@dataclass(frozen=True)
class DelimitedFile:
    """A text file that has been looked at, and how it is read."""

    path: Path
    separator: str
    columns: tuple[str, ...]
    """Names of the columns, of the header or given."""
    header_line: int
    """Line of the header, counted from 1; 0 without one."""
    fast: bool
    """Whether polars reads it: no quotes, and as many fields in every line."""
    rows: int
    """Lines that must become rows where polars reads it."""
    blank: tuple[int, ...] = ()
    """Lines without anything, where polars reads it."""
    may_quote: bool = True
    """Whether ``"`` may enclose fields."""
    quotes: bool = False
    """Whether there is any."""
    notes: list[str] = field(default_factory=list)
    """What is to be known of the reading, a sentence each; complete once :meth:`scan` has returned."""

    def scan(self, wanted: Mapping[str, str] | None = None) -> pl.LazyFrame:
        """Return the rows: text, null where a field is empty, with the number of their line as `line`.

        Parameters
        ----------
        wanted
            New name → column of the file; all by their own names by default.

        Raises
        ------
        DataFormatError
            If a line has too many or too few fields, or a quote opens no field; with the line.
        """
        wanted = {name: name for name in self.columns} if wanted is None else wanted
        names, places = list(wanted), [self.columns.index(name) for name in wanted.values()]
        if not self.fast:
            return self._read_lines(names, places).lazy()
        scan = pl.scan_csv(
            self.path,
            separator=self.separator,
            has_header=False,
            skip_lines=self.header_line,
            schema={f"column {place}": pl.String() for place in range(len(self.columns))},
            missing_columns="insert",
            quote_char=None,
            row_index_name="line",
            row_index_offset=self.header_line + 1,
            raise_if_empty=False,
            glob=False,
        )
        if self.blank:
            scan = scan.filter(~pl.col("line").is_in(list(self.blank)))
        fields = (pl.col(f"column {place}").alias(name) for place, name in zip(places, names, strict=True))
        return scan.select("line", *fields)

    def refuse_line(self) -> None:
        """Raise :class:`DataFormatError` for the first line that is not like the header, if there is one."""
        for _ in self._plain():
            pass

    def check_rows(self, rows: int) -> None:
        """Raise :class:`DataFileError` if another number of rows was read than there are lines."""
        if self.fast and rows != self.rows:
            raise DataFileError(
                f"{self.path} has {self.rows:,} lines of rows, but {rows:,} were read: nothing is read of a file that "
                "does not add up. Write it as parquet."
            )

    def notes_of(self, rows: int) -> list[str]:
        """Return what is to be known once so many rows were read: of its other lines, no value is in any."""
        left = self.rows - rows
        passed = [f"{self.path.name}: {left:,} rows have no value at all, and are passed over."] if left > 0 else []
        return [*self.notes, *passed]

    def _read_lines(self, names: Sequence[str], places: Sequence[int]) -> pl.DataFrame:
        """Return the rows as Python reads them: by quotes, or where they enclose nothing without."""
        if not self.may_quote:
            return _table(self._plain(), names, places)
        before = len(self.notes)
        try:
            return _table(self._quoted(), names, places)
        except DataFormatError as error:
            del self.notes[before:]
            try:
                table = _table(self._plain(unclosed=True), names, places)
            except DataFormatError:
                raise error from None
            self.notes.append(f"{self.path.name}: its quotes enclose no values and are read as characters of them.")
            return table

    def _quoted(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row by RFC 4180 with the line it begins in."""
        pending: list[str] = []
        several = skipped = 0

        def watched(lines: Iterable[str]) -> Iterator[str]:
            for text in lines:
                pending.append(text)
                yield text

        csv.field_size_limit(2**31 - 1)  # a text may be longer than the 128 KiB of csv
        with text_lines(self.path, self.header_line) as lines:
            reader = csv.reader(watched(lines), delimiter=self.separator, strict=True)
            line = self.header_line + 1
            while True:
                try:
                    fields = next(reader)
                except StopIteration:
                    break
                except csv.Error as error:
                    raise self._malformed(line, len(pending), str(error)) from error
                if len(fields) == len(self.columns):
                    if len(pending) > 1:
                        self._refuse_swallowed(line, pending)
                        several += 1
                    yield line, fields
                elif len(self.columns) == 1 and not fields:
                    yield line, [""]
                elif any(value.strip() for value in fields) or len(pending) > 1:
                    raise self._ragged(line, fields)
                else:
                    skipped += 1
                line += len(pending)
                pending.clear()
        self.tell_skipped(skipped)
        if several:
            self.notes.append(f"{self.path.name}: {several:,} rows have quoted values that go over several lines.")

    def _plain(self, *, unclosed: bool = False) -> Iterator[tuple[int, list[str]]]:
        """Yield each line's fields; with `unclosed`, a field that quotes enclose is an error."""
        skipped = 0
        with text_lines(self.path, self.header_line) as lines:
            for line, text in enumerate(lines, self.header_line + 1):
                fields = text.rstrip("\r\n").split(self.separator)
                if len(fields) == len(self.columns):
                    if unclosed and any(len(value) > 1 and value[0] == value[-1] == '"' for value in fields):
                        raise self._malformed(line, 1, "some values are enclosed in quotes, and this one is not")
                    yield line, fields
                elif text.strip():
                    raise self._ragged(line, fields)
                else:
                    skipped += 1
        self.tell_skipped(skipped)

    def tell_skipped(self, skipped: int) -> None:
        """Note that so many blank lines are passed over, if there are any."""
        if skipped:
            self.notes.append(f"{self.path.name}: {skipped:,} blank lines are passed over.")

    def _refuse_swallowed(self, line: int, lines: Sequence[str]) -> None:
        """Raise if lines that a quoted value joined look like rows of their own: as many fields, ids of one form."""
        parts = [text.rstrip("\r\n").split(self.separator) for text in lines]
        if any(len(part) != len(self.columns) for part in parts):
            return
        first = [_form(value) for value in parts[0]]
        whole = next((place for place, value in enumerate(parts[0]) if '"' not in value), None)
        # Prose has one comma in a line now and then, a blank behind it, but hardly tabs, nor several in every line.
        prose = len(self.columns) == 2 and self.separator != "\t"
        if prose and (whole is None or any(_form(part[whole]) != first[whole] for part in parts[1:])):
            return
        if prose and not parts[0][1].startswith(" ") and all(part[1].startswith(" ") for part in parts[1:]):
            return
        raise self._malformed(line, len(lines), "the lines look like rows of their own")

    def _malformed(self, line: int, lines: int, reason: str) -> DataFormatError:
        where = f"line {line:,}" if lines <= 1 else f"lines {line:,} to {line + lines - 1:,}"
        return DataFormatError(
            f'{self.path.name}, {where}: a quote (") is in the way: {reason}. Enclose values with quotes whole and '
            'double the quotes in them ("6"" pipe"), or write the table as parquet.'
        )

    def _ragged(self, line: int, fields: Sequence[str]) -> DataFormatError:
        return DataFormatError(
            f"{self.path.name}, line {line:,}: {len(fields)} fields divided by {self.separator!r}, not "
            f"{len(self.columns)} ({choices(self.columns)}). Correct the line; a value that holds the separator is "
            "enclosed in quotes."
        )


def look_at(
    path: Path,
    separator: str,
    columns: Sequence[str] | None = None,
    *,
    quoted: bool = True,
    wanted: Sequence[str] = (),
) -> DelimitedFile:
    """Look at a file once, from its first byte to its last.

    Parameters
    ----------
    separator
        What divides fields, by the name of the file.
    columns
        Names of the columns of a file without a header; None where the first line that is not blank has them.
    quoted
        Whether ``"`` may enclose fields.
    wanted
        Columns that the header should have: where it lacks one, other separators are tried.

    Raises
    ------
    DataFileError
        If the file cannot be read, or is not UTF-8; the encoding is named, with the line.
    DataFormatError
        If a column of `wanted` is there twice.
    EmptyDatasetError
        If there is nothing in it.
    """
    counts = LineCounts(path)
    header_line, header = first_line(path)
    notes: list[str] = []
    if columns is None:
        separator, names = _header(path, header, separator, quoted, wanted, notes)
    else:
        names, header_line = tuple(columns), 0
    if len(names) == 1:  # nothing is a value then: an empty one
        counts.blank = [line for line in counts.blank if line < header_line]
    rows = counts.lines - len(counts.blank) - (header_line > 0)
    separators = counts.separators[separator] - (header.count(separator) if header_line else 0)
    blank = tuple(line for line in counts.blank if line > header_line)
    fast = not (counts.quotes or counts.old_mac) and separators == rows * (len(names) - 1) and len(blank) <= _MOST_BLANK
    file = DelimitedFile(path, separator, names, header_line, fast, rows, blank, quoted, counts.quotes > 0, notes)
    if fast:
        file.tell_skipped(len(blank))
    return file


def _header(
    path: Path, header: str, separator: str, quoted: bool, wanted: Sequence[str], notes: list[str]
) -> tuple[str, tuple[str, ...]]:
    """Return the separator of a file, and the names in its header."""

    def names(by: str) -> tuple[str, ...]:
        return tuple(name.strip() for name in (divided(header, by) if quoted else header.split(by)))

    found = names(separator)
    if any(name not in found for name in wanted):
        for other in SEPARATORS:
            if other != separator and all(name in names(other) for name in wanted):
                notes.append(f"{path.name}: values are divided by {other!r}, not by {separator!r}.")
                separator, found = other, names(other)
                break
    for name in wanted:
        if found.count(name) > 1:
            raise DataFormatError(f"{path.name} has {found.count(name)} columns {name!r}. Name each column once.")
    return separator, found


def _table(rows: Iterable[tuple[int, list[str]]], names: Sequence[str], places: Sequence[int]) -> pl.DataFrame:
    """Return some fields of rows as columns of text, with the line as `line`."""
    schema = {"line": pl.UInt32(), **dict.fromkeys(names, pl.String())}
    batches: list[pl.DataFrame] = []
    lines: list[int] = []
    columns: list[list[str | None]] = [[] for _ in places]

    def put() -> None:
        values = dict(zip(schema, [lines, *columns], strict=True))
        batches.append(pl.DataFrame(values, schema=schema))
        lines.clear()
        for column in columns:
            column.clear()

    for line, fields in rows:
        lines.append(line)
        for column, place in zip(columns, places, strict=True):
            column.append(fields[place] or None)
        if len(lines) == _BATCH:
            put()
    put()
    return pl.concat(batches)


def _form(value: str) -> str:
    """Return the form of an id: runs of digits and of letters by one sign each, so that u12 is like u7."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", value.strip()))
