"""Examples of files by Ray Data: each worker of Ray Train is sent the rows of its own files, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import ray.data
import ray.train

from coldray.core import errors
from coldray.core.errors import DataError
from coldray.training.files.examples import Columns, ExampleFiles, Slice, as_column, worker_plan
from coldray.training.files.task import FilesTask

TRAIN = "train"
"""What the dataset is called."""
REFUSAL = "refusal"
"""The column that stands in the place of rows that cannot be used: the name of an error, and its message."""
READERS = 2
"""Rows of files that are read at the same time for a worker."""


class OwnFiles(ray.train.DataConfig):
    """Gives each worker a dataset of its own files, where Ray Train's would hand out rows as they come.

    What comes first there depends on who is fast. Here the rows of a worker are always the same, in the same order.
    """

    def __init__(self, examples: ExampleFiles) -> None:
        super().__init__()
        self.examples = examples

    def configure(self, datasets: Any, world_size: int, *others: Any, **more: Any) -> list[dict[str, Any]]:
        """Return the dataset of each worker; called again when lost workers are replaced."""
        return [
            {TRAIN: planned(self.examples, list(worker_plan(self.examples, rank, world_size))).iterator()}
            for rank in range(world_size)
        ]


def planned(examples: ExampleFiles, plan: list[Slice]) -> ray.data.Dataset:
    """Return the rows of a plan, in its order."""
    rows = ray.data.from_items([asdict(part) for part in plan], override_num_blocks=len(plan))
    read = rows.map_batches(
        _read,  # type: ignore[arg-type] # it has an argument more
        batch_size=1,
        fn_args=(examples,),
        compute=ray.data.TaskPoolStrategy(size=min(READERS, len(plan))),
        num_cpus=0,  # the workers hold the CPUs, and would wait for ever for rows that wait for one
    )
    read.context.execution_options.preserve_order = True
    read.context.enable_progress_bars = False
    return read


def ingestion(task: Any) -> dict[str, Any]:
    """Return the arguments by which a trainer reads the files of a task; none for a task that holds its examples."""
    if not isinstance(task, FilesTask):
        return {}
    examples = task.examples_of
    return {"datasets": {TRAIN: planned(examples, [Slice(0, 0, 0)])}, "dataset_config": OwnFiles(examples)}


def read_own_files(task: Any) -> None:
    """Let a worker's copy of a task read what Ray Train sends to this worker."""
    if not isinstance(task, FilesTask):
        return
    context, shard = ray.train.get_context(), ray.train.get_dataset_shard(TRAIN)
    columns, types = task.examples_of.columns, task.examples_of.types

    def pieces() -> Iterator[Columns]:
        for piece in shard.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1):
            if REFUSAL in piece:
                name, message = piece[REFUSAL].tolist()
                raise getattr(errors, name)(message)
            # Ray Data makes a matrix of lists that happen to be of one length.
            yield {name: as_column(piece[name], kind) for name, kind in zip(columns, types, strict=True)}

    task.read_by(pieces, context.get_world_rank(), context.get_world_size())


def _read(batch: dict[str, Any], examples: ExampleFiles) -> dict[str, Any]:
    try:
        return examples.read(Slice(*(int(batch[name][0]) for name in ("file", "start", "stop"))))
    except DataError as error:  # Ray Data would bring the text of its traceback, without what it says
        return {REFUSAL: np.array([type(error).__name__, str(error)])}
