"""Training examples in parquet files that no machine has to hold: which rows are trained on when, and by whom.

An epoch goes through the rows in windows. Each window has the same share of every file, so that workers, who have files
of their own, read side by side; the examples of a window are mixed. What a batch is made of does not depend on the
number of workers: only who computes which part of it does.

Notation used for shapes: B examples of a batch over all workers, b of them on one worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from coldray.core.errors import DataFileError, DataFormatError, EmptyDatasetError
from coldray.training.batches import Batches, share
from coldray.training.row_random import Purpose, derived_generator

Columns: TypeAlias = dict[str, npt.NDArray[Any]]
"""Rows, by the name of the column."""
TYPES = ("object", "float32", "int64")
"""Of columns; of files that differ the first of them counts, and a number is no list."""
WINDOW = 1 << 20
"""Examples of a window by default."""


@dataclass(frozen=True)
class Slice:
    """Consecutive rows of a file."""

    file: int
    start: int
    stop: int


@dataclass(frozen=True)
class ExampleFiles:
    """Parquet files of examples, a row each; all machines see them.

    The order of the rows should say nothing, as that of files written after a shuffle: an epoch mixes the examples of
    a window only.
    """

    files: tuple[Path, ...]
    rows: tuple[int, ...]
    """Of each file; files may differ in length."""
    columns: tuple[str, ...]
    """What is read of them: numbers, or lists of whole numbers such as the history of a user."""
    types: tuple[str, ...]
    """Of each column, as numpy calls it: int64, float32, or object for lists."""
    window: int = WINDOW
    """Examples of a window over all workers, about: what an epoch mixes, and what the workers hold at a time."""

    @classmethod
    def found(cls, folder: Path, columns: Sequence[str], *, window: int = WINDOW) -> Self:
        """Look at the ``*.parquet`` files of a folder, in the order of their names.

        Raises
        ------
        DataFileError
            If there is none, or one cannot be read.
        DataFormatError
            If a column is missing or holds neither numbers nor lists of whole numbers.
        EmptyDatasetError
            If there is no row.
        """
        files = sorted(folder.absolute().glob("*.parquet"))
        if not files:
            raise DataFileError(f"{folder} holds no *.parquet file of examples.")
        found = [_rows_and_types(file, columns) for file in files]
        rows = tuple(count for count, _ in found)
        if not sum(rows):
            raise EmptyDatasetError(f"The files of {folder} have no row to train on.")
        types = tuple(
            next(kind for kind in TYPES if kind in kinds) for kinds in zip(*(k for _, k in found), strict=True)
        )
        return cls(tuple(files), rows, tuple(columns), types, window)

    @property
    def n_examples(self) -> int:
        """Rows of all files."""
        return sum(self.rows)

    @property
    def n_windows(self) -> int:
        """Windows of an epoch."""
        return -(-self.n_examples // self.window)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """First example of each window, and the number of all.

        An example is named by its place in the order of the windows, and within them of the files.
        """
        sizes = [sum(part.stop - part.start for part in self.slices(window)) for window in range(self.n_windows)]
        return np.cumsum([0, *sizes])

    def window_with(self, example: int) -> int:
        """Return the window that an example is of."""
        return int(np.searchsorted(self.starts, example, side="right")) - 1

    def part(self, window: int, rank: int, size: int) -> range:
        """Return which examples of a window are in the files of a worker; they are consecutive."""
        sizes = [sum(one.stop - one.start for one in self.slices(window, other, size)) for other in range(rank + 1)]
        start = int(self.starts[window]) + sum(sizes[:-1])
        return range(start, start + sizes[-1])

    def slices(self, window: int, rank: int = 0, size: int = 1) -> list[Slice]:
        """Return which rows of a window worker `rank` of `size` has, in order: those of its files."""
        mine = range(len(self.files))[share(len(self.files), rank, size)]
        n, windows = self.rows, self.n_windows
        return [Slice(f, n[f] * window // windows, n[f] * (window + 1) // windows) for f in mine]

    def read(self, part: Slice) -> Columns:
        """Return some rows of a file; only the row groups that they are in are read.

        Raises
        ------
        DataFileError
            If the file cannot be read, or is shorter than it was.
        """
        path = self.files[part.file]
        try:
            with pq.ParquetFile(path) as file:
                counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
                ends = np.cumsum([0, *counts])
                groups = np.flatnonzero((ends[:-1] < part.stop) & (ends[1:] > part.start)).tolist()
                table = file.read_row_groups(groups, columns=list(self.columns))
        except (OSError, pa.ArrowException) as error:
            raise DataFileError(f"{path} cannot be read: {error}") from error
        first = part.start - int(ends[groups[0]]) if groups else 0
        rows = table.slice(first, part.stop - part.start)
        if len(rows) != part.stop - part.start:
            raise DataFileError(f"{path} has changed since the training began: rows {part.start:,} on are missing.")
        for name in self.columns:
            if rows[name].null_count:
                raise DataFormatError(f"{name} of {path} is empty in some of the rows from {part.start:,} on.")
        return {
            name: as_column(rows[name].to_numpy(), kind) for name, kind in zip(self.columns, self.types, strict=True)
        }


class WindowBatches(Batches):
    """The batches of one epoch of :class:`ExampleFiles`; each is of one window, the last of a window may be smaller.

    The examples of a batch ascend, so that those of a worker are consecutive.
    """

    def __init__(self, examples: ExampleFiles, batch_size: int, seed: int, epoch: int) -> None:
        self.examples_of, self.batch_size = examples, batch_size
        self.seed, self.epoch = seed, epoch
        self._mixed: tuple[int, torch.Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    @cached_property
    def _first_steps(self) -> npt.NDArray[np.int64]:
        """First step of each window, and the number of all."""
        return np.cumsum([0, *(-(-np.diff(self.examples_of.starts) // self.batch_size)).tolist()])

    def __len__(self) -> int:
        return int(self._first_steps[-1])

    def window_of(self, step: int) -> int:
        """Return the window that a step's examples are of."""
        return int(np.searchsorted(self._first_steps, step, side="right")) - 1

    def examples(self, step: int) -> torch.Tensor:
        """Return the examples of all workers in that step, int64 ``[B]``, ascending."""
        window = self.window_of(step)
        if self._mixed[0] != window:
            generator = derived_generator(self.seed, Purpose.ORDER, self.epoch, window)
            start, stop = self.examples_of.starts[window : window + 2].tolist()
            self._mixed = (window, torch.randperm(stop - start, generator=generator) + start)
        first = (step - int(self._first_steps[window])) * self.batch_size
        return self._mixed[1][first : first + self.batch_size].sort().values

    def range_of_worker(self, step: int, rank: int, size: int) -> slice:
        """Return which of the step's examples are in the files of a worker."""
        mine = self.examples_of.part(self.window_of(step), rank, size)
        bounds = torch.tensor([mine.start, mine.stop])
        start, stop = torch.searchsorted(self.examples(step), bounds).tolist()
        return slice(start, stop)


def worker_plan(examples: ExampleFiles, rank: int, size: int) -> Iterator[Slice]:
    """Yield what a worker reads in an epoch, in order."""
    for window in range(examples.n_windows):
        yield from examples.slices(window, rank, size)


def as_column(values: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
    """Return rows as one of :data:`TYPES`; lists as int64 arrays, whether or not they are of one length."""
    if kind != "object":
        return values.astype(kind, copy=False)
    lists = np.empty(len(values), object)
    for place, row in enumerate(values):
        lists[place] = np.asarray(row, np.int64)
    return lists


def _rows_and_types(file: Path, columns: Sequence[str]) -> tuple[int, list[str]]:
    try:
        with pq.ParquetFile(file) as opened:
            schema, rows = opened.schema_arrow, int(opened.metadata.num_rows)
    except (OSError, pa.ArrowException) as error:
        raise DataFileError(f"{file} cannot be read: {error}") from error
    types = []
    for name in columns:
        if name not in schema.names:
            raise DataFormatError(f"{file} has no column {name!r}; it has {', '.join(map(repr, schema.names))}.")
        types.append(_type(schema.field(name).type, name, file))
    return rows, types


def _type(kind: pa.DataType, name: str, file: Path) -> str:
    if pa.types.is_integer(kind):
        return "int64"
    if pa.types.is_floating(kind):
        return "float32"
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_integer(kind.value_type):
        return "object"
    raise DataFormatError(f"{name} of {file} is {kind}; examples are numbers, or lists of whole numbers.")
