"""Files of tables: parquet, folders of it, and delimited text with a header."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol, TypeAlias

import polars as pl

from coldray.core.errors import ColdrayError, DataFileError, DataFormatError
from coldray.core.spelling import choices, nearest
from coldray.data.tables.column_types import Role, check_types
from coldray.data.tables.delimited import DelimitedFile, look_at
from coldray.data.tables.lines import suffix
from coldray.data.tables.parquet import parquet_files, scan_files

FileFormat: TypeAlias = Literal["csv", "parquet"]


@dataclass(frozen=True)
class _TableRead:
    """The rows of a file, and what is to be known of how they were read."""

    rows: pl.DataFrame
    notes: tuple[str, ...]
    """A sentence each."""


class Table(Protocol):
    """Rows under named columns, wherever they are."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def untyped(self) -> bool:
        """True if its columns are text whatever they hold, as in CSV."""

    def read(self, columns: Mapping[str, str], roles: Mapping[str, Role]) -> _TableRead:
        """Return `columns` (new name → name there), refused as :func:`read_columns` refuses them."""


@dataclass(frozen=True)
class TableFile:
    """A table in a file or in a folder of files."""

    path: Path
    file_format: FileFormat

    @property
    def name(self) -> str:
        """The file's name, without its folder."""
        return self.path.name

    @property
    def untyped(self) -> bool:
        """True of delimited text."""
        return is_csv(self.path, self.file_format)

    def read(self, columns: Mapping[str, str], roles: Mapping[str, Role]) -> _TableRead:
        """Return the rows as :func:`read_columns` does."""
        return read_columns(self.path, columns, self.file_format, roles)


@dataclass(frozen=True)
class TableFrame:
    """A table in memory."""

    frame: pl.DataFrame
    name: str
    untyped: ClassVar[bool] = False

    def read(self, columns: Mapping[str, str], roles: Mapping[str, Role]) -> _TableRead:
        """Return the rows of `columns`, whose types are checked."""
        require_columns(self.frame.columns, columns.values(), self.name)
        check_types(self.frame.schema, {columns[new]: role for new, role in roles.items()}, self.name)
        return _TableRead(self.frame.select(pl.col(name).alias(new) for new, name in columns.items()), ())


def table_columns(path: Path, file_format: FileFormat = "parquet", wanted: Sequence[str] = ()) -> list[str]:
    """Return the names of the columns of a file, where `wanted` tell how it is divided; errors as in `read_columns`."""
    with explained(path):
        _exists(path)
        if is_csv(path, file_format):
            return list(look_at(path, _separator(path), wanted=wanted).columns)
        files = parquet_files(path, [])
        return scan_files(files, path).collect_schema().names()


def read_columns(
    path: Path, columns: Mapping[str, str], file_format: FileFormat = "parquet", roles: Mapping[str, Role] | None = None
) -> _TableRead:
    """Read only `columns` (new name → name in the file); CSV columns stay text, to be typed without loss later.

    Parameters
    ----------
    roles
        What a column (new name) is for: one of a type that cannot be read so is refused.

    Raises
    ------
    DataFileError
        If the file is missing or cannot be read.
    DataFormatError
        If a column is missing or of a type that its role does not accept, or a line is malformed.
    """
    notes: list[str] = []
    with explained(path):
        _exists(path)
        if is_csv(path, file_format):
            return _read_delimited(path, columns)
        scan = scan_files(parquet_files(path, notes), path, list(dict.fromkeys(columns.values())))
        schema = scan.collect_schema()
        check_types(schema, {columns[new]: role for new, role in (roles or {}).items()}, path.name)
        chosen = scan.select(pl.col(name).alias(new) for new, name in columns.items())
        return _TableRead(chosen.collect(engine="streaming"), tuple(notes))


def _read_delimited(path: Path, columns: Mapping[str, str]) -> _TableRead:
    file = look_at(path, _separator(path), wanted=tuple(columns.values()))
    for name in columns.values():
        if name not in file.columns:
            hint = " Does the file have a header?" if _looks_like_row(file.columns) else ""
            require_columns(file.columns, [name], path.name, hint)
    try:
        rows = file.scan(columns).drop("line").collect(engine="streaming")
    except pl.exceptions.ComputeError:
        file.refuse_line()
        raise
    file.check_rows(rows.height)
    notes = list(file.notes)
    return _TableRead(_without_no_rows(rows, file, columns, notes), tuple(notes))


def _without_no_rows(
    rows: pl.DataFrame, file: DelimitedFile, columns: Mapping[str, str], notes: list[str]
) -> pl.DataFrame:
    """Return the rows but for headers that are there again, as in files put together, and for rows of separators alone.

    Spreadsheets write the latter for rows that were once filled. What is left out is noted.
    """
    again = pl.all_horizontal(pl.col(new).str.strip_chars(" \ufeff") == name for new, name in columns.items())
    if headers := int(rows.select(again.sum()).item()):
        notes.append(f"{file.path.name}: its header is there {headers:,} times more, and left out as no row.")
        rows = rows.filter(~again.fill_null(False))
    blank = pl.all_horizontal(pl.all().str.strip_chars().fill_null("") == "")
    if len(file.columns) == 1 or not rows.select(blank.any()).item():
        return rows
    whole = file.scan().drop("line").filter(blank).select(pl.len()).collect(engine="streaming").item()
    if whole == int(rows.select(blank.sum()).item()):  # else a row has something in other columns, and is refused
        notes.append(f"{file.path.name}: {whole:,} rows have no value at all, and are passed over.")
        return rows.filter(~blank)
    return rows


def _looks_like_row(names: Sequence[str]) -> bool:
    return any(name.replace(".", "", 1).isdigit() for name in names)


def _exists(path: Path) -> None:
    if not path.exists():
        raise DataFileError(f"{path} does not exist. Correct the path.")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what polars and the system raise while `path` is read into :class:`DataFileError`."""
    try:
        yield
    except ColdrayError:
        raise
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        reason = " ".join(str(error).split("\n\n")[0].split())  # polars adds paragraphs of advice on its own options
        raise DataFileError(f"{path} cannot be read: {reason}") from error


def require_columns(found: Sequence[str], wanted: Iterable[str], source: str, hint: str = "") -> None:
    """Raise :class:`DataFormatError` naming the first of `wanted` that is not in `found`."""
    for name in wanted:
        if name not in found:
            raise DataFormatError(
                f"{source} has no column {name!r}.{nearest(name, found)} It has: {choices(found)}.{hint}"
            )


def is_csv(path: Path, file_format: FileFormat) -> bool:
    """Tell how a file is read: by its ending, before ``.gz`` or ``.zst``, or else as `file_format` says."""
    return {".csv": True, ".tsv": True, ".parquet": False}.get(suffix(path), file_format == "csv")


def _separator(path: Path) -> str:
    return "\t" if suffix(path) == ".tsv" else ","
