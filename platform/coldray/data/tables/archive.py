"""The text files of a published data set, in a folder or in its archive: tables → columns of text."""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from coldray.core.errors import DataFileError, DataFormatError
from coldray.data.tables.files import require_columns

LATIN = "iso-8859-1"
"""Encoding of most files that MovieLens and HetRec were published with."""


@dataclass(frozen=True)
class DataFiles:
    """The files of a folder, or of an archive whatever folder they are in there."""

    path: Path
    """A folder, or a ``.zip``."""
    layout: str
    """Whose files they are, for error messages: HetRec, MovieLens 100K."""
    notes: list[str] = field(default_factory=list, compare=False)
    """What is to be known of how they were read, a sentence each."""

    def content(self, name: str) -> bytes | None:
        """Return the bytes of a file, None when it is absent; DataFileError if it cannot be read."""
        with self._refusals(name):
            if self.path.is_dir():
                file = self.path / name
                return file.read_bytes() if file.is_file() else None
            with zipfile.ZipFile(self.path) as archive:
                member = _member(archive, name)
                return None if member is None else archive.read(member)

    @contextmanager
    def unpacked(self, name: str) -> Iterator[Path]:
        """Yield the path of a file, which must be there: its own, or of a copy while the block runs.

        For files too long for :meth:`content`: from an archive they go to a temporary folder piece by piece.
        """
        with tempfile.TemporaryDirectory(prefix="coldray-") as folder:
            with self._refusals(name):
                file = self.path / name
                if not self.path.is_dir():
                    file = Path(folder) / name
                    with zipfile.ZipFile(self.path) as archive:
                        if (member := _member(archive, name)) is not None:
                            with archive.open(member) as packed, file.open("wb") as copy:
                                shutil.copyfileobj(packed, copy)
            if not file.is_file():
                raise self._absent(name)
            yield file

    def table(
        self, name: str, required: tuple[str, ...], optional: tuple[str, ...] = (), *, encoding: str = LATIN
    ) -> pl.DataFrame | None:
        """Return columns of a tab-separated file with a header, as stripped text with their `line` number.

        None when the file is absent; DataFormatError if a `required` column is.
        """
        content = self.content(name)
        if content is None:
            return None
        text = self._decoded(content, name, encoding)
        self._note_ragged(text, name)
        try:
            table = pl.read_csv(
                io.BytesIO(text.encode()),
                separator="\t",
                quote_char=None,
                infer_schema=False,
                truncate_ragged_lines=True,
                row_index_name="line",
                row_index_offset=2,
            )
        except pl.exceptions.PolarsError as error:
            raise DataFormatError(f"{name} in {self.path} is not a tab-separated table: {error}") from error
        table = table.rename(str.strip)
        require_columns([column for column in table.columns if column != "line"], required, name)
        kept = [*required, *(column for column in optional if column in table.columns)]
        stripped = table.select("line", *(pl.col(column).str.strip_chars() for column in kept))
        rows = stripped.filter(~pl.all_horizontal(pl.col(kept).is_null()))
        if passed := stripped.height - rows.height:
            self.notes.append(
                f"{name}: {passed:,} lines have no value in the columns that are read, and are passed over."
            )
        return rows

    def required_table(
        self, name: str, required: tuple[str, ...], optional: tuple[str, ...] = (), *, encoding: str = LATIN
    ) -> pl.DataFrame:
        """Return :meth:`table` of a file that must be there."""
        table = self.table(name, required, optional, encoding=encoding)
        if table is None:
            raise self._absent(name)
        return table

    def rows(self, name: str, separator: str, columns: Sequence[str], *, encoding: str = LATIN) -> pl.DataFrame:
        """Return a file without a header, which must be there, as `columns` of stripped text with their `line` number.

        Blank lines are left out; DataFormatError for the first line that has not one field a column.
        """
        content = self.content(name)
        if content is None:
            raise self._absent(name)
        # Not read_csv: it fills short lines up and does not say which line is too long.
        lines = pl.Series("text", [self._decoded(content, name, encoding)]).str.split("\n").explode().to_frame()
        lines = lines.with_row_index("line", offset=1).filter(pl.col("text").str.strip_chars() != "")
        fields = lines.select("line", fields=pl.col("text").str.split(separator))
        misfits = fields.filter(pl.col("fields").list.len() != len(columns))
        if not misfits.is_empty():
            line, found = misfits.row(0)
            raise DataFormatError(
                f"{name}, line {line}: {len(found)} fields divided by {separator!r}, not {len(columns)} "
                f"({', '.join(columns)}); {misfits.height:,} such lines in the file."
            )
        return fields.select(
            "line",
            *(pl.col("fields").list.get(place).str.strip_chars().alias(name) for place, name in enumerate(columns)),
        )

    def _note_ragged(self, text: str, name: str) -> None:
        """Note how many lines have another number of fields than the header: published files have a few."""
        lines = pl.Series(text.split("\n"))
        tabs = lines.str.count_matches("\t", literal=True)
        odd = (tabs != tabs[0]) & (lines.str.strip_chars() != "")
        if odd.any():
            self.notes.append(
                f"{name}: {int(odd.sum()):,} lines have another number of fields than the header, the first is line "
                f"{int(odd.arg_max() or 0) + 1:,}; absent fields are blank, others not read."
            )

    def _decoded(self, content: bytes, name: str, encoding: str) -> str:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            raise DataFormatError(f"{name} in {self.path} is not text in {encoding}: {error}") from error

    @contextmanager
    def _refusals(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise DataFileError(f"{name} cannot be read from {self.path}: {error}") from error

    def _absent(self, name: str) -> DataFileError:
        return DataFileError(
            f"{self.path} has no {name}. Name the folder that holds the {self.layout} files, or their .zip, by "
            "--data-dir."
        )


def _member(archive: zipfile.ZipFile, name: str) -> str | None:
    return next((member for member in archive.namelist() if member.rsplit("/", 1)[-1] == name), None)


def parse_numbers(
    table: pl.DataFrame, column: str, dtype: pl.DataType, name: str, *, optional: bool = False
) -> pl.Series:
    """Return a column of file `name` as numbers; the first that is none is an error with its line.

    `optional` lets blanks be null. `table` has the column `line`, as :class:`DataFiles` gives it.
    """
    text = table.get_column(column)
    values = text.cast(dtype, strict=False)
    bad = ~(values.is_finite().fill_null(False) if dtype.is_float() else values.is_not_null())
    if optional:
        bad &= ~text.is_in(["", r"\N"]).fill_null(True)
    refuse_values(bad, table, column, name, "not a number")
    return values


def refuse_values(bad: pl.Series, table: pl.DataFrame, column: str, name: str, problem: str) -> None:
    """Raise DataFormatError with the first of the `bad` values of a column, its line and how many there are."""
    if bad.any():
        row = bad.arg_max() or 0
        line, value = table.get_column("line")[row], table.get_column(column)[row]
        raise DataFormatError(
            f"{name}, line {line}: {column} is {value!r}, {problem} ({bad.sum():,} such lines in the file)."
        )
