"""Histories in parquet, too many to be held: checked by their footers, and spread over partitions by user.

A row is a user and an item of theirs, in any order and any file. A row without an item tells of a user with no history.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as types

from coldray.core.errors import DataFileError, DataFormatError, EmptyDatasetError
from coldray.core.files import replacing_folder
from coldray.data.tables.ids import without_blanks

Done: TypeAlias = Callable[[int], None]
"""Told how many rows are done."""

USER, ITEM, RATING, TIME = "user_id", "item_id", "rating", "timestamp"
"""The columns of a partition; the last two only where there are ratings, or times."""
_BATCH_ROWS = 1 << 20
"""Rows read at a time."""
_ROWS_PER_PARTITION = 200_000
"""Ids of some megabytes, and ten times that while they are looked up."""
_MOST_PARTITIONS = 512
"""Files that are written to at the same time; of more rows, partitions get larger."""


@dataclass(frozen=True)
class Histories:
    """Parquet files of rows (user, item), and of ratings and times where there are any."""

    files: tuple[Path, ...]
    """In the order of their names."""
    rows: int
    columns: tuple[str, ...]
    """The names in the files of the columns of `schema`."""
    schema: pa.Schema
    """Of the partitions: ids are int64 or strings, ratings float32, times int64, or dates as they are in the files.
    Unsigned ids are strings if one of them is beyond int64."""
    folder: Path
    """What the names of files are relative to."""

    def with_text_items(self) -> Histories:
        """Return the histories with the ids of items read as text, for a catalogue in which numbers are text."""
        place = self.schema.get_field_index(ITEM)
        return replace(self, schema=self.schema.set(place, pa.field(ITEM, pa.large_string())))

    @property
    def default_partitions(self) -> int:
        """How many partitions hold about :data:`_ROWS_PER_PARTITION` rows each."""
        return min(max(1, -(-self.rows // _ROWS_PER_PARTITION)), _MOST_PARTITIONS)

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns as the record of a run has them: that of times is told from one of ratings."""
        names = zip(self.schema.names, self.columns, strict=True)
        return tuple(f"{TIME}={column}" if name == TIME else column for name, column in names)

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each file by its name; all of them are read."""
        return {str(path.relative_to(self.folder)): _sha256(path) for path in self.files}

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield all rows, :data:`_BATCH_ROWS` at most at a time, with the columns and types of the partitions.

        Raises
        ------
        DataFileError, DataFormatError
            If a file cannot be read or is malformed.
        """
        for path in self.files:
            with _reading(path), pq.ParquetFile(path) as file:
                for batch in file.iter_batches(_BATCH_ROWS, columns=list(self.columns)):
                    table = pa.table(batch).select(list(self.columns)).rename_columns(self.schema.names)
                    yield pl.DataFrame(pl.from_arrow(table.cast(self.schema)))


def find_histories(
    path: Path, *, user: str = USER, item: str = ITEM, rating: str | None = None, timestamp: str | None = None
) -> Histories:
    """Look at a file, or at all ``*.parquet`` files of a folder and its folders; only their footers are read.

    Parameters
    ----------
    user, item
        Columns of ids: integers or strings, of one kind in all files.
    rating
        Column of ratings; None does not read any.
    timestamp
        Column of times: integers, such as seconds since 1970, or dates; None does not read any.

    Raises
    ------
    DataFileError
        If there is no such file or folder, or a file is no parquet.
    DataFormatError
        If a column is missing or is not of its type.
    EmptyDatasetError
        If there is no row.
    """
    root, files = _files(path)
    given = {USER: user, ITEM: item, RATING: rating, TIME: timestamp}
    names = {column: name for column, name in given.items() if name is not None}
    rows = 0
    kinds: dict[str, pa.DataType] = {}
    beyond: set[str] = set()
    for file in files:
        with _reading(file), pq.ParquetFile(file) as opened:
            rows += opened.metadata.num_rows
            found = {column: _kind(file, opened.schema_arrow, name, column) for column, name in names.items()}
            beyond |= {column for column in (USER, ITEM) if _beyond_int64(opened, names[column])}
        for column, kind in found.items():
            if kind != kinds.setdefault(column, kind):
                raise DataFormatError(
                    f"{names[column]} is {kind} in {file} and {kinds[column]} in {files[0]}; write all files with one "
                    "type."
                )
    if not rows:
        raise EmptyDatasetError(f"{path} has no row: there is no user to recommend anything to.")
    kinds |= dict.fromkeys(beyond, pa.large_string())
    return Histories(tuple(files), rows, tuple(names.values()), pa.schema(kinds), root)


def _partition_of(users: pl.Series, n_partitions: int) -> pl.Series:
    """Return the partition of each user: the CRC-32 of the id, as text without blanks around it, modulo their number.

    It is the same on every machine and in every version, so that one partition can be made anew among others. Rows
    without a user are of partition 0.
    """
    ids = without_blanks(users).cast(pl.String).to_list()
    return pl.Series("partition", [0 if user is None else zlib.crc32(user.encode()) % n_partitions for user in ids])


def write_partitions(histories: Histories, folder: Path, n_partitions: int, done: Done) -> None:
    """Write a parquet file for each partition to `folder`, all of them or none; memory does not grow with the rows.

    A user's rows are in one file. Ray Data's own shuffle of 20 million rows took 4.7 GB on two CPUs; this takes the
    half gigabyte of a batch, and the reading of parquet is what it waits for.

    Raises
    ------
    DataFileError, DataFormatError
        If a file cannot be read or is malformed.
    OutputError
        If a partition cannot be written.
    """
    with replacing_folder(folder) as temporary, ExitStack() as closing:
        writers = [
            closing.enter_context(pq.ParquetWriter(partition_file(temporary, number), histories.schema))
            for number in range(n_partitions)
        ]
        rows = 0
        for batch in histories.batches():
            numbered = batch.with_columns(_partition_of(batch[USER], n_partitions))
            for (number,), part in numbered.partition_by("partition", as_dict=True, include_key=False).items():
                writers[int(number)].write_table(part.to_arrow().cast(histories.schema))
            rows += len(batch)
            done(rows)
        closing.close()  # the footers are part of what has to be there before the folder takes its name


def partitions_complete(folder: Path, n_partitions: int, rows: int) -> bool:
    """Return whether the partitions in `folder` can be read and hold that many rows."""
    try:
        files = [partition_file(folder, number) for number in range(n_partitions)]
        return bool(sum(pq.read_metadata(file).num_rows for file in files) == rows)
    except (OSError, pa.ArrowException):
        return False


def partition_file(folder: Path, number: int) -> Path:
    """Return the file of a partition."""
    return folder / f"part-{number:05}.parquet"


def _files(path: Path) -> tuple[Path, list[Path]]:
    if path.is_file():
        return path.parent, [path]
    if not path.is_dir():
        raise DataFileError(f"There is no file or folder {path} of histories.")
    files = sorted(file for file in path.rglob("*.parquet") if not _hidden(file.relative_to(path)))
    if not files:
        raise DataFileError(f"{path} holds no *.parquet file; histories are read from parquet.")
    return path, files


def _hidden(path: Path) -> bool:
    """Return whether a file, or a folder on the way to it, is one of those that readers of parquet pass over."""
    return any(part.startswith((".", "_")) for part in path.parts)


def _kind(file: Path, schema: pa.Schema, name: str, column: str) -> pa.DataType:
    """Return the type that a column has in partitions."""
    if name not in schema.names:
        raise DataFormatError(f"{file} has no column {name!r}; it has {', '.join(map(repr, schema.names))}.")
    dtype = schema.field(name).type
    dtype = dtype.value_type if types.is_dictionary(dtype) else dtype
    if column == RATING:
        if types.is_integer(dtype) or types.is_floating(dtype) or types.is_decimal(dtype):
            return pa.float32()
        raise DataFormatError(f"{name} of {file} is {dtype}; ratings are numbers: whole, floating or decimal.")
    if types.is_integer(dtype):
        return pa.int64()
    if column == TIME:
        if types.is_timestamp(dtype) or types.is_date(dtype):
            return dtype
        raise DataFormatError(f"{name} of {file} is {dtype}; times are integers, such as seconds since 1970, or dates.")
    if types.is_string(dtype) or types.is_large_string(dtype) or types.is_string_view(dtype):
        return pa.large_string()
    raise DataFormatError(f"{name} of {file} is {dtype}; ids are integers or strings.")


def _beyond_int64(file: pq.ParquetFile, name: str) -> bool:
    """Return whether an id of an unsigned column is too large for int64; read only where the footer does not say."""
    dtype = file.schema_arrow.field(name).type
    if (dtype.value_type if types.is_dictionary(dtype) else dtype) != pa.uint64():
        return False
    column = [file.schema.column(place).path for place in range(len(file.schema))].index(name)
    for number in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(number).column(column).statistics
        if statistics is not None and statistics.has_min_max:
            highest = statistics.max
        else:
            highest = pc.max(file.read_row_group(number, columns=[name]).column(0)).as_py()
        if highest is not None and highest >= 2**63:
            return True
    return False


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what pyarrow and the system raise while a file is read into errors of the data."""
    try:
        yield
    except OSError as error:  # pyarrow has errors of its own that are of this kind
        raise DataFileError(f"{path} cannot be read: {error}") from error
    except pa.ArrowException as error:
        raise DataFormatError(f"{path} is no parquet file that can be read: {error}") from error


def _sha256(path: Path) -> str:
    with _reading(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
