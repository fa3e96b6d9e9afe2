"""Files of tables: parquet, folders of it, and CSV with a header."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl

from coldray.errors import DataFileError, DataFormatError
from coldray.spelling import choices, nearest

FileFormat: TypeAlias = Literal["csv", "parquet"]


def table_columns(path: Path, file_format: FileFormat = "parquet") -> list[str]:
    """Return the names of the columns of a file; errors as in :func:`read_columns`."""
    with _explained(path):
        return _scan(path, file_format).collect_schema().names()


def read_columns(path: Path, columns: dict[str, str], file_format: FileFormat = "parquet") -> pl.DataFrame:
    """Read only `columns` (new name → name in the file); CSV columns stay text, to be typed without loss later.

    Raises
    ------
    DataFileError
        If the file is missing or cannot be read.
    DataFormatError
        If a column is missing.
    """
    with _explained(path):
        table = _scan(path, file_format)
        require_columns(table.collect_schema().names(), columns.values(), path.name)
        return table.select(pl.col(name).alias(new) for new, name in columns.items()).collect(engine="streaming")


def _scan(path: Path, file_format: FileFormat) -> pl.LazyFrame:
    if not path.exists():
        raise DataFileError(f"{path} does not exist. Correct the path in the data configuration.")
    if not is_csv(path, file_format):
        return pl.scan_parquet(path)
    return pl.scan_csv(path, infer_schema=False, separator="\t" if path.suffix.lower() == ".tsv" else ",")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = " ".join(str(error).split("\n\n")[0].split())  # polars adds paragraphs of advice on its own options
        raise DataFileError(f"{path} cannot be read: {reason}") from error


def require_columns(found: Sequence[str], wanted: Iterable[str], source: str) -> None:
    """Raise :class:`DataFormatError` naming the first of `wanted` that is not in `found`."""
    for name in wanted:
        if name not in found:
            raise DataFormatError(f"{source} has no column {name!r}.{nearest(name, found)} It has: {choices(found)}.")


def is_csv(path: Path, file_format: FileFormat) -> bool:
    """Tell how a file is read: by its ending, or else as `file_format` says."""
    return {".csv": True, ".tsv": True, ".parquet": False}.get(path.suffix.lower(), file_format == "csv")
