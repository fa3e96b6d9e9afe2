"""Parquet files and folders of them, as other programs leave them behind.

A folder is its ``*.parquet`` files, at any depth, in the order of their names. What begins with ``.`` or ``_`` is
passed over, as all readers of parquet do: checksums, ``_SUCCESS``, ``_committed_*``. Folders called ``key=value`` are a
column of text. Integers of several widths, and text beside categories, are one column.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from coldray.core.errors import DataFileError, DataFormatError
from coldray.core.spelling import choices, nearest

_MAGIC = b"PAR1"
"""First bytes of a parquet file."""
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""What a folder is called for rows without a value."""
_LISTED = 3
"""Names of files that are passed over which a note lists."""


def parquet_files(path: Path, notes: list[str]) -> list[Path]:
    """Return the parquet files that `path` is: itself, or those of a folder; what else lies there is noted.

    Raises
    ------
    DataFileError
        If it is a folder without one, or a file that is none.
    """
    if not path.is_dir():
        if not _begins(path):
            raise DataFileError(
                f"{path} cannot be read: it is no parquet file. The name of one with commas ends in .csv, with tabs in "
                ".tsv, packed by gzip or zstd in .csv.gz or .tsv.zst."
            )
        return [path]
    there = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path)))
    found = [file for file in there if file.suffix.lower() in (".parquet", ".pq") or _begins(file)]
    kept = set(found)
    others = [str(file.relative_to(path)) for file in there if file not in kept]
    if not found:
        has = f"It has {len(others):,} other files, such as {others[0]}." if others else "It is empty."
        raise DataFileError(f"{path} has no parquet file. {has} Name a CSV file itself, not its folder.")
    if others:
        more = f" and {len(others) - _LISTED:,} more" if len(others) > _LISTED else ""
        notes.append(f"{path.name}: files that are no parquet are passed over: {', '.join(others[:_LISTED])}{more}.")
    return found


def scan_files(
    files: Sequence[Path | str], root: Path | None = None, columns: Sequence[str] | None = None
) -> pl.LazyFrame:
    """Return the rows of parquet files as one table of `columns`, all of the first file's by default.

    Parameters
    ----------
    root
        The folder below which folders called ``key=value`` are columns; None takes none for one.

    Raises
    ------
    DataFormatError
        If a file lacks a column, or files have it in types that are not of one kind.
    """
    scans = [_with_folders(file, root) for file in files]
    schemas = [scan.collect_schema() for scan in scans]
    columns = list(schemas[0]) if columns is None else list(columns)
    for file, schema in zip(files, schemas, strict=True):
        for name in columns:
            if name not in schema:
                raise DataFormatError(
                    f"{Path(file).name} has no column {name!r}.{nearest(name, schema)} It has: {choices(schema)}."
                )
    if len(scans) == 1:
        return scans[0].select(columns)
    types = {
        name: _common(name, [(Path(f).name, s[name]) for f, s in zip(files, schemas, strict=True)]) for name in columns
    }
    return pl.concat([scan.select(pl.col(name).cast(dtype) for name, dtype in types.items()) for scan in scans])


def _with_folders(file: Path | str, root: Path | None) -> pl.LazyFrame:
    """Return the scan of a file, with the values in the names of its folders as columns of text."""
    scan = pl.scan_parquet(file, glob=False, hive_partitioning=False)
    parents = Path(file).relative_to(root).parts[:-1] if root is not None and file != root else ()
    pairs = [unquote(part).split("=", 1) for part in parents if "=" in part]
    names = scan.collect_schema().names()
    values = {name: None if value == _NO_VALUE else value for name, value in pairs if name not in names}
    return scan.with_columns(pl.lit(value, pl.String).alias(name) for name, value in values.items())


def _common(name: str, types: Sequence[tuple[str, pl.DataType]]) -> pl.DataType:
    """Return one type for a column of several files."""
    first_file, first = types[0]
    different = {dtype for _, dtype in types if not isinstance(dtype, pl.Null)}
    if len(different) <= 1:
        return next(iter(different), first)
    if all(dtype.is_integer() for dtype in different):
        return pl.Int128() if pl.UInt64() in different else pl.Int64()
    if all(dtype.is_numeric() for dtype in different):
        return pl.Float64()
    if all(isinstance(dtype, pl.String | pl.Categorical | pl.Enum) for dtype in different):
        return pl.String()
    if all(isinstance(dtype, pl.List) and dtype.inner.is_integer() for dtype in different):
        return pl.List(pl.Int64())
    if all(isinstance(dtype, pl.Datetime) for dtype in different):
        return pl.Datetime("us")
    other_file, other = next((f, d) for f, d in types if d != first and not isinstance(d, pl.Null))
    raise DataFormatError(
        f"Column {name!r} holds {first} in {first_file} and {other} in {other_file}. Write all files with one type."
    )


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _begins(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False
