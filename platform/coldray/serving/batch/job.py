"""The lists of all users, by Ray Data: a partition of users at a time and worker, each written as a file of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import ray
import ray.data

from coldray.core import errors
from coldray.core.errors import ClusterError, ColdrayError, OutputError
from coldray.core.masking import masked
from coldray.core.memory import GIB, require_memory
from coldray.core.ray_errors import in_words
from coldray.data.tables.histories import partition_file
from coldray.serving.batch.lists import BatchLists, Counts
from coldray.serving.batch.output import ListsFolder, write_part

_WORKER_BYTES = int(0.6 * GIB)
"""What a worker takes: the libraries, a partition, and a block of scores."""


def make_lists(
    lists: ray.ObjectRef[BatchLists], folder: ListsFolder, numbers: Sequence[int], workers: int
) -> Iterator[Counts]:
    """Make and write the lists of partitions; yield the counts of each as soon as it is finished.

    A worker that is lost is replaced, and makes its partition anew: a part is complete or absent.

    Parameters
    ----------
    lists
        In the object store: the workers of a machine share the arrays.
    folder
        Where the histories are by partition and where the parts go; all machines see it.
    numbers
        Of the partitions.
    workers
        Processes at the same time, of one CPU each.

    Raises
    ------
    ColdrayError
        What a worker raised, such as :class:`~coldray.core.errors.NumericalError` for scores that cannot be ranked.
    ClusterError
        If Ray gives up on the workers.
    """
    _be_quiet()
    partitions = ray.data.from_items([{"partition": number} for number in numbers], override_num_blocks=len(numbers))
    done = partitions.map_batches(
        _PartitionLists,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
        fn_constructor_args=([lists], folder),
        num_cpus=1,
    )
    try:
        for row in done.iter_rows():
            if refusal := row.pop("error"):
                name, _, message = refusal.partition(": ")
                raise getattr(errors, name)(message)
            yield Counts(**row)
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"The workers that make lists failed: {in_words(error)}. The partitions that are finished are kept; the "
            "same command goes on with the others."
        ) from error


class _PartitionLists:
    """One worker.

    Parameters
    ----------
    lists
        The reference, in a list: so it is looked up here, by a worker that takes over as well.
    folder
        As in :func:`make_lists`.
    """

    def __init__(self, lists: Sequence[ray.ObjectRef[BatchLists]], folder: ListsFolder) -> None:
        self.lists, self.folder = ray.get(lists[0]), folder

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Make the lists of one partition; return its counts, and an error of ours or an empty text, ``[1]`` each.

        Ray Data would bring an error as the text of its traceback.
        """
        counts, refusal = Counts(), ""
        try:
            self._make(int(batch["partition"][0]), counts)
        except ColdrayError as error:
            refusal = f"{type(error).__name__}: {masked(str(error))}"
        return {name: np.array([value]) for name, value in {**vars(counts), "error": refusal}.items()}

    def _make(self, number: int, counts: Counts) -> None:
        source = partition_file(self.folder.partitioned, number)
        if not source.exists():
            raise OutputError(
                f"A worker does not see {source}, which was written when the job began. All machines of a cluster need "
                "one output folder: use a network file system."
            )
        with pq.ParquetFile(source) as file:  # read_table would make columns of folders called key=value
            rows = pl.DataFrame(pl.from_arrow(file.read()))
        write_part(self.folder, number, self.lists.of_histories(rows, counts), counts)


def require_workers(workers: int, model_bytes: int, index_bytes: int) -> None:
    """Refuse to start more workers on this machine than it has memory for.

    Parameters
    ----------
    model_bytes
        Of the arrays that workers share.
    index_bytes
        Of the index of vectors, which each worker has for itself.

    Raises
    ------
    CatalogTooLargeError
        If they do not fit.
    """
    require_memory(
        workers * (_WORKER_BYTES + index_bytes) + model_bytes,
        purpose=f"Making lists by {workers} workers with a model of {model_bytes / GIB:,.1f} GiB",
        way_out="Use fewer --cpus, a smaller model, or a cluster with --ray-address.",
    )


def _be_quiet() -> None:
    """Keep Ray Data from printing: the job says how far it is."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
