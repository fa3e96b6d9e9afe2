"""Tables too long to hold as text: scanned, typed on the way, and collected by the streaming engine of polars."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl

from coldray.core.errors import DataFileError, DataFormatError, EmptyDatasetError
from coldray.data.tables.delimited import DelimitedFile, look_at
from coldray.data.tables.encodings import refuse_encoding
from coldray.data.tables.ids import BLANKS, blanks_note
from coldray.data.tables.lines import opened
from coldray.data.tables.numbers import times


def scan_delimited(
    path: Path, separator: str, columns: Sequence[str] | None = None, *, quoted: bool = False
) -> tuple[DelimitedFile, pl.LazyFrame]:
    """Return a UTF-8 text file and a scan of it, every column of it text, with the number of each row as `line`.

    Rows without any value are left out: the `notes_of` the file count them. Errors are those of
    :func:`~coldray.data.tables.delimited.look_at`.

    Parameters
    ----------
    columns
        The names of the columns of a file without a header; None when the first line has them.
    quoted
        Whether ``"`` encloses fields.
    """
    with readable(path):
        file = look_at(path, separator, columns, quoted=quoted)
        if file.fast:
            scan = file.scan()
        elif quoted and file.quotes:
            table = file.scan().collect()
            file, scan = replace(file, rows=table.height), table.lazy()
        else:  # null, which collect_typed refuses by line, where a line is too short
            scan = pl.scan_csv(
                path,
                separator=separator,
                has_header=columns is None,
                schema=None if columns is None else dict.fromkeys(columns, pl.String()),
                infer_schema=False,
                missing_columns="raise" if columns is None else "insert",
                quote_char=None,
                row_index_name="line",
                row_index_offset=2 if columns is None else 1,
                glob=False,
            )
            file.tell_skipped(len(file.blank))
        return file, scan.filter(~pl.all_horizontal(pl.exclude("line").is_null()))


def collect_typed(
    scan: pl.LazyFrame,
    types: Mapping[str, pl.DataType],
    path: Path,
    notes: list[str],
    *,
    categorical: Sequence[str] = (),
) -> pl.DataFrame:
    """Return the columns of a scan as `types`; the text of numbers is never held as a whole.

    Parameters
    ----------
    scan
        Columns of text, or of the type asked for, and the column `line`.
    types
        The columns to return. A String column is of ids, without blanks around them; a blank one, and a number that is
        none or is not finite, is refused.
    path
        The file, for messages.
    notes
        Where blanks are left out around ids, a sentence about it is added.
    categorical
        String columns to return as Categorical: a number a row instead of a text.

    Raises
    ------
    DataFileError
        If the file cannot be read.
    DataFormatError
        If it is malformed, or a value is missing or not of its type; the message has the first one's line.
    """
    parsed = {name: _parsed(name, dtype).alias(name) for name, dtype in types.items()}
    coded = [expr.cast(pl.Categorical) if name in categorical else expr for name, expr in parsed.items()]
    with readable(path):
        texts = [name for name, dtype in types.items() if dtype == pl.String]
        changed = [(parsed[name] != pl.col(name).cast(pl.String)).alias(f"blanks {name}") for name in texts]
        table = scan.select(*coded, *changed).collect(engine="streaming")
        for name in types:
            if bad := table.get_column(name).null_count():
                row = scan.filter(parsed[name].is_null()).select("line", name).head(1).collect()
                problem = "blank" if types[name] == pl.String else f"{row.item(0, name)!r}, not a number"
                raise DataFormatError(
                    f"{path.name}, line {row.item(0, 'line')}: {name} is {problem} ({bad:,} such lines in the file)."
                )
        for name in texts:
            if blanks := int(table.get_column(f"blanks {name}").sum()):
                forms = scan.select(pl.col(name).cast(pl.String).n_unique() - parsed[name].n_unique())
                notes.append(blanks_note(f"{path.name}, column {name!r}", blanks, forms.collect().item()))
    return table.select(*types)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what polars and the system raise while `path` is read into an error of the data.

    EmptyDatasetError for an empty file, DataFormatError for a malformed one, DataFileError for what cannot be read.
    """
    try:
        yield
    except pl.exceptions.NoDataError as error:
        raise EmptyDatasetError(f"{path.name} in {path.parent} is empty: nothing to learn from.") from error
    except (pl.exceptions.ComputeError, pl.exceptions.SchemaError) as error:
        raise DataFormatError(f"{path.name} in {path.parent} is malformed: {_reason(error)}") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataFileError(f"{path} cannot be read: {_reason(error)}") from error


def with_seconds(table: pl.DataFrame, path: Path, notes: list[str]) -> pl.DataFrame:
    """Return a table with its `timestamp` (Int64) as whole seconds since 1970, whose unit is told by their size.

    Errors and notes are those of :func:`~coldray.data.tables.numbers.times`.
    """
    found = times(table["timestamp"], f"{path.name}, column 'timestamp'", notes)
    return table.with_columns(found.cast(pl.Int64).alias("timestamp"))


def scan_json_lines(path: Path, names: Sequence[str]) -> pl.LazyFrame:
    """Return fields of a file of JSON lines as text, null where a line lacks one, with the number of the `line`."""
    with readable(path):
        schema = dict.fromkeys(names, pl.String())
        return pl.scan_ndjson(glob.escape(str(path)), schema=schema, row_index_name="line", row_index_offset=1)


@contextmanager
def named_json_line(path: Path) -> Iterator[None]:
    """Turn the error of a file of JSON lines that is malformed into one that names the line."""
    try:
        yield
    except DataFormatError as error:
        if "malformed" in str(error):
            _refuse_json_line(path)
        raise


def _refuse_json_line(path: Path) -> None:
    with opened(path) as stream:
        for line, text in enumerate(stream, 1):
            if line == 1:
                refuse_encoding(text, 0, path)
            try:
                value = json.loads(text.decode()) if text.strip() else {}
            except UnicodeDecodeError as error:
                refuse_encoding(text, line - 1, path, error)
            except json.JSONDecodeError as error:
                raise DataFormatError(
                    f"{path.name} in {path.parent} is malformed, line {line:,}: {error.msg}"
                ) from error
            else:
                if not isinstance(value, dict):
                    raise DataFormatError(f"{path.name} in {path.parent} is malformed, line {line:,}: no JSON object.")


def _parsed(name: str, dtype: pl.DataType) -> pl.Expr:
    text = pl.col(name).cast(pl.String).str.strip_chars(BLANKS)
    if dtype == pl.String:
        return pl.when(text != "").then(text)
    number = text.cast(dtype, strict=False)
    return pl.when(number.is_finite()).then(number) if dtype.is_float() else number


def _reason(error: Exception) -> str:
    return " ".join(str(error).split("\n\n")[0].split())  # polars adds paragraphs of advice on its own options
