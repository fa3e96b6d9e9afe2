"""Tasks whose examples are rows of files: a worker holds its part of one window at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from coldray.core.errors import DataFileError
from coldray.training.batches import Batches
from coldray.training.files.examples import Columns, ExampleFiles, WindowBatches, worker_plan
from coldray.training.task import Batch, TrainingTask

Read: TypeAlias = Callable[[], Iterable[Columns]]
"""Begins to read what a worker trains on in an epoch: rows in the order of its plan, in pieces of any length."""


class FilesTask(TrainingTask):
    """A task whose examples are the rows of parquet files.

    Of several workers each has files of its own and reads them through Ray Data; one alone reads all in its process.
    A window is read when the first of its examples is asked for, in the order of the epoch. A training that is resumed
    in mid-epoch reads the windows before again.

    Parameters
    ----------
    examples
        The files.
    """

    def __init__(self, examples: ExampleFiles) -> None:
        self.examples_of = examples
        self._read_here()

    def __getstate__(self) -> dict[str, Any]:
        """Return the task without what it has read: it is sent to workers that read for themselves."""
        return {name: value for name, value in self.__dict__.items() if name != "_parts"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._read_here()

    def _read_here(self) -> None:
        examples = self.examples_of
        self.read_by(lambda: map(examples.read, worker_plan(examples, 0, 1)), 0, 1)

    @property
    def n_examples(self) -> int:
        """Rows of all files."""
        return self.examples_of.n_examples

    def read_by(self, read: Read, rank: int, size: int) -> None:
        """Say which worker this is, and how it reads its files."""
        self._parts = WorkerPart(self.examples_of, read, rank, size)

    def batches(self, batch_size: int, seed: int, epoch: int) -> Batches:
        """Return the batches of an epoch, each of one window."""
        return WindowBatches(self.examples_of, batch_size, seed, epoch)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the rows of `examples`, which are of one window and in this worker's files."""
        return self.of_rows(self._parts.rows(examples.numpy()), examples, generator)

    @abstractmethod
    def of_rows(self, rows: Columns, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the tensors of the rows of `examples`, ``[b]`` each; random parts come from `generator`."""


class WorkerPart:
    """The rows of one worker, of one window at a time."""

    def __init__(self, examples: ExampleFiles, read: Read, rank: int, size: int) -> None:
        self._examples, self._read, self._rank, self._size = examples, read, rank, size
        self._pieces: Iterator[Columns] = iter(())
        empty = {name: np.zeros(0, kind) for name, kind in zip(examples.columns, examples.types, strict=True)}
        self._rows, self._left = empty, empty
        self._window, self._first = -1, 0

    def rows(self, examples: npt.NDArray[np.int64]) -> Columns:
        """Return the rows of some examples of one window, or of none."""
        if len(examples):
            self._go_to(self._examples.window_with(int(examples[0])))
        return {name: column[examples - self._first] for name, column in self._rows.items()}

    def _go_to(self, window: int) -> None:
        """Read on to a window; from the first one if it is behind."""
        if window < self._window or self._window < 0:
            self._pieces, self._window = iter(self._read()), -1
            self._left = {name: column[:0] for name, column in self._left.items()}
        while self._window < window:
            self._window += 1
            part = self._examples.part(self._window, self._rank, self._size)
            self._first, self._rows = part.start, self._taken(len(part))

    def _taken(self, count: int) -> Columns:
        """Return the next rows; what a piece has more is left for the next window."""
        pieces, rows = [self._left], len(next(iter(self._left.values())))
        while rows < count:
            piece = next(self._pieces, None)
            if piece is None:
                raise DataFileError(f"The files of examples ended {count - rows:,} rows early. Have they changed?")
            pieces.append(piece)
            rows += len(next(iter(piece.values())))
        whole = {name: np.concatenate([piece[name] for piece in pieces]) for name in self._examples.columns}
        self._left = {name: column[count:].copy() for name, column in whole.items()}
        return {name: column[:count] for name, column in whole.items()}
