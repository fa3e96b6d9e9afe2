"""Clicks in shards of users, and sums over shards by the workers of a Ray cluster.

A shard is read where it lies: in the object store, or in parquet files. It has all clicks of its users; what is added
up over shards would otherwise miss pairs of clicks. Files that do not keep users together are read by buckets: a shard
is then the users of all files whose id falls into its bucket.

Matrices that are summed are too large to be held once a shard. Each worker adds up its share of the shards, one after
the other, in the place of one sum: it holds that and one shard, however many users there are. The sums of two workers
are then added, those of two pairs, and so on (a tree), in panels of rows, so that whoever adds holds three panels and
no whole matrix. No machine has more sums than it has workers.

Shards go to workers in the order they are given, so the same number of workers adds in the same order, and gives the
same bits. What a worker has lost is added up again by another.

Notation used for shapes: u users of a shard, I items.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import ray
import scipy.sparse as sp
from ray.exceptions import RayError

from coldray.core.errors import ColdrayError, DataFileError, DataFormatError, TrainingFailedError
from coldray.core.memory import require_memory
from coldray.core.ray_errors import cause_of, in_words
from coldray.data.tables.column_types import check_types
from coldray.data.tables.parquet import scan_files


def row_shards(clicks: sp.csr_array, count: int) -> list[slice]:
    """Cut the rows into at most `count` shards of consecutive ones, with about as many clicks and at least one row."""
    ends = np.searchsorted(clicks.indptr, clicks.nnz * np.arange(1, count) / count).tolist()
    return [slice(first, last) for first, last in pairwise([0, *ends, clicks.shape[0]]) if last > first]


_SHARD_CLICKS = 2**22
"""Clicks of a shard that is cut from a matrix, about; one user's are never divided."""


@dataclass(frozen=True)
class ParquetShard:
    """Clicks in parquet files, a row each; of users and items that come twice, one counts."""

    files: tuple[str, ...]
    """Paths that every machine can read."""
    n_items: int
    """I."""
    user_column: str = "user"
    """Column of user ids, numbers or text."""
    item_column: str = "item"
    """Column of item ids; of indices from 0 on without `item_ids`."""
    item_ids: tuple[str, ...] | tuple[int, ...] | None = None
    """Ids of the items in the order of their indices."""
    bucket: int = 0
    """Which of the `buckets` users are taken from."""
    buckets: int = 1
    """Buckets that users are dealt into by their id; 1 takes all."""

    def read(self) -> sp.csr_array:
        """Return the clicks, CSR ``[u, I]`` float32 ones; a row a user, in the order of their ids.

        Raises
        ------
        DataFileError
            If a file cannot be read.
        DataFormatError
            If a column or an id is missing, or an item is not among the I.
        """
        table = self._pairs()
        where = ", ".join(self.files)
        for name in ("user", "item"):
            if table.get_column(name).null_count():
                raise DataFormatError(f"{where} has rows without {name}. Filter them out.")
        items = self._indices(table.get_column("item"), where)
        users, rows = np.unique(table.get_column("user").to_numpy(), return_inverse=True)
        ones = np.ones(len(items), np.float32)
        clicks = sp.csr_array((ones, (rows.ravel(), items)), shape=(len(users), self.n_items))
        clicks.sum_duplicates()
        clicks.data[:] = 1
        return clicks

    def _pairs(self) -> pl.DataFrame:
        try:
            columns = pl.scan_parquet(self.files[0], glob=False, hive_partitioning=False).collect_schema().names()
            for name in (self.user_column, self.item_column):
                if name not in columns:
                    raise DataFormatError(f"{', '.join(self.files)} has no column {name!r}, but {', '.join(columns)}.")
            table = scan_files(self.files, columns=list(dict.fromkeys((self.user_column, self.item_column))))
            check_types(table.collect_schema(), {self.user_column: "id", self.item_column: "id"}, ", ".join(self.files))
            user, item = pl.col(self.user_column), pl.col(self.item_column)
            table = table.select(user.alias("user"), item.alias("item"))
            if self.buckets > 1:
                table = table.filter(pl.col("user").hash() % self.buckets == self.bucket)
            return table.collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = " ".join(str(error).split("\n\n")[0].split())
            raise DataFileError(f"{', '.join(self.files)} cannot be read: {reason}") from error

    def _indices(self, items: pl.Series, where: str) -> npt.NDArray[np.int64]:
        if self.item_ids is not None:
            known = pl.DataFrame({"item": list(self.item_ids)}).cast(items.dtype).with_row_index("index")
            items = items.to_frame().join(known, on="item", how="left", maintain_order="left").get_column("index")
            unknown = items.null_count()
            if unknown:
                raise DataFormatError(f"{where} has {unknown:,} clicks on items that item_ids does not name.")
        elif not items.dtype.is_integer():
            raise DataFormatError(f"{where} has items of type {items.dtype}, not indices. Give their ids as item_ids.")
        indices = items.to_numpy().astype(np.int64)
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.n_items:
            raise DataFormatError(
                f"{where} has items from {indices.min()} to {indices.max()}; with n_items={self.n_items:,} they must "
                f"be from 0 to {self.n_items - 1:,}."
            )
        return indices


Shard: TypeAlias = "sp.csr_array | ParquetShard | ray.ObjectRef[Any]"
"""Clicks ``[u, I]``, where to read them, or a reference to either in the object store."""


def parquet_shards(
    files: Sequence[str | Path], *, n_items: int, buckets: int | None = None, **columns: Any
) -> list[ParquetShard]:
    """Return the shards that parquet files are read by.

    Parameters
    ----------
    buckets
        Shards that users are dealt into, each of which reads all files: for files over which the clicks of a user are
        spread. Left out, each file is a shard, and has all clicks of its users.
    **columns
        `user_column`, `item_column` and `item_ids` of :class:`ParquetShard`.
    """
    names = tuple(map(str, files))
    if buckets is None:
        return [ParquetShard((name,), n_items, **columns) for name in names]
    return [ParquetShard(names, n_items, bucket=number, buckets=buckets, **columns) for number in range(buckets)]


def click_shards(clicks: sp.csr_array, *, at_least: int, shard_clicks: int = _SHARD_CLICKS) -> list[sp.csr_array]:
    """Cut clicks ``[U, I]`` into shards of consecutive users with about as many clicks each.

    Parameters
    ----------
    at_least
        Shards wanted; fewer where there are fewer users, more where they would be larger than `shard_clicks`.
    """
    count = max(at_least, math.ceil(clicks.nnz / shard_clicks))
    return [clicks[rows] for rows in row_shards(clicks, count)]


def _read_shard(shard: Shard) -> sp.csr_array:
    """Return the clicks of a shard, wherever they lie."""
    found = ray.get(shard) if isinstance(shard, ray.ObjectRef) else shard
    return found.read() if isinstance(found, ParquetShard) else found


Sum: TypeAlias = npt.NDArray[np.float64]
_Panels: TypeAlias = list["ray.ObjectRef[Any]"]
"""Where the rows of sums are, in the order of :func:`_panels`."""
_RETRIES = 3
"""Times that a share of the shards is added up again when its worker is lost."""
_PANEL_BYTES = 2**26
"""Bytes of the rows that are sent at once."""


class _ShardTerms(Protocol):
    """What is added up: matrices that each shard adds a term to."""

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """Shapes of the sums, in their order."""

    def add(self, clicks: sp.csr_array, sums: list[Sum]) -> None:
        """Add the term of the clicks ``[u, I]`` of a shard to float64 `sums`, in their place."""


def sum_over_shards(
    terms: _ShardTerms, shards: Sequence[Shard], *, workers: int = 1, kind: npt.DTypeLike = np.float64
) -> list[npt.NDArray[Any]]:
    """Return the sums over all shards; zeros without any.

    Parameters
    ----------
    workers
        Tasks that add shards up side by side; 1 adds in this process, without a cluster.
    kind
        Numbers of what is returned; sums are of float64 until then.

    Raises
    ------
    CatalogTooLargeError
        If the sums do not fit in the memory of a worker, or of this process.
    DataError
        If a shard cannot be read.
    TrainingFailedError
        If workers were lost more often than allowed.
    """
    need = int(sum(np.prod(shape) for shape in terms.shapes))
    if workers == 1:
        _require_sums(8 * need)
        sums = [np.zeros(shape) for shape in terms.shapes]
        for shard in shards:
            terms.add(_read_shard(shard), sums)
        return [one.astype(kind, copy=False) for one in sums]
    _require_sums(np.dtype(kind).itemsize * need)
    panels = _panels(terms.shapes)
    try:
        return _collected(_tree(terms, _stored(shards), workers, panels), terms.shapes, panels, kind)
    except RayError as error:
        if isinstance(cause_of(error), ColdrayError):
            raise cause_of(error) from error
        raise TrainingFailedError(
            f"Adding up {len(shards):,} shards by {workers} workers of the Ray cluster failed: {in_words(error)}. Use "
            "workers=1, smaller shards, or nodes with more memory."
        ) from error


def _stored(shards: Sequence[Shard]) -> list[Shard]:
    """Return the shards without any click that would be sent along with a task."""
    sent = (ray.ObjectRef, ParquetShard)
    return [shard if isinstance(shard, sent) else ray.put(shard) for shard in shards]


def _panels(shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, slice]]:
    """Return the rows of which sum are sent together."""
    panels = []
    for place, shape in enumerate(shapes):
        height = max(1, _PANEL_BYTES // max(1, 8 * int(np.prod(shape[1:]))))
        bounds = [*range(0, shape[0], height), shape[0]]
        panels += [(place, slice(*rows)) for rows in pairwise(bounds)]
    return panels


def _tree(terms: _ShardTerms, shards: list[Shard], workers: int, panels: list[tuple[int, slice]]) -> _Panels:
    """Return the panels of the sums over all shards."""
    # One result more than there are panels: it is small, and tells whether the task failed.
    count, shared = len(panels) + 1, ray.put(terms)
    add_share: Any = _add_share.options(num_returns=count)
    add_pair: Any = _add_pair.options(num_returns=count)
    bounds = np.linspace(0, len(shards), min(workers, max(1, len(shards))) + 1).astype(int).tolist()
    parts = _finished([add_share.remote(shared, shards[first:last], panels) for first, last in pairwise(bounds)])
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        alone = parts[len(parts) // 2 * 2 :]
        parts = _finished([add_pair.remote(left, right) for left, right in pairs]) + alone
    return parts[0]


def _finished(parts: list[Any]) -> list[_Panels]:
    """Wait for tasks and return their panels, which stay where they are; raise what a task raised."""
    found = [[part] if isinstance(part, ray.ObjectRef) else part for part in parts]
    ray.get([part[-1] for part in found])
    return [part[:-1] for part in found]


def _collected(
    references: _Panels,
    shapes: Sequence[tuple[int, ...]],
    panels: list[tuple[int, slice]],
    kind: npt.DTypeLike,
) -> list[npt.NDArray[Any]]:
    sums = [np.empty(shape, kind) for shape in shapes]
    for (place, rows), reference in zip(panels, references, strict=True):
        sums[place][rows] = ray.get(reference)
    return sums


# No CPU is reserved: a trial that waits for its sums holds one, and would wait for ever where all are held by trials.
@ray.remote(num_cpus=0, max_retries=_RETRIES, scheduling_strategy="SPREAD")
def _add_share(terms: _ShardTerms, shards: list[Shard], panels: list[tuple[int, slice]]) -> Iterator[Sum | None]:
    _require_sums(8 * int(sum(np.prod(shape) for shape in terms.shapes)))
    sums = [np.zeros(shape) for shape in terms.shapes]
    for shard in shards:
        terms.add(_read_shard(shard), sums)
    yield from (sums[place][rows] for place, rows in panels)
    yield None


@ray.remote(num_cpus=0, max_retries=_RETRIES, scheduling_strategy="SPREAD")
def _add_pair(left: _Panels, right: _Panels) -> Iterator[Sum | None]:
    for both in zip(left, right, strict=True):
        first, second = ray.get(list(both))
        yield first + second
    yield None


def _require_sums(need: int) -> None:
    require_memory(
        need,
        purpose="The sums over shards of users",
        way_out="Use fewer items through the filters (min_item_interactions), or nodes with more memory.",
    )
