"""Clicks in shards of users, each read where it lies: from the object store of a Ray cluster, or from parquet files.

A shard has all clicks of its users; what is added up over shards would otherwise miss pairs of clicks. Files that do
not keep users together are read by buckets: a shard is then the users of all files whose id falls into its bucket.

Notation used for shapes: u users of a shard, I items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import ray
import scipy.sparse as sp

from coldray.core.errors import DataFileError, DataFormatError
from coldray.data.tables.column_types import check_types
from coldray.data.tables.parquet import scan_files
from coldray.models.linalg.row_shards import row_shards

SHARD_CLICKS = 2**22
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


def click_shards(clicks: sp.csr_array, *, at_least: int, shard_clicks: int = SHARD_CLICKS) -> list[sp.csr_array]:
    """Cut clicks ``[U, I]`` into shards of consecutive users with about as many clicks each.

    Parameters
    ----------
    at_least
        Shards wanted; fewer where there are fewer users, more where they would be larger than `shard_clicks`.
    """
    count = max(at_least, math.ceil(clicks.nnz / shard_clicks))
    return [clicks[rows] for rows in row_shards(clicks, count)]


def read_shard(shard: Shard) -> sp.csr_array:
    """Return the clicks of a shard, wherever they lie."""
    found = ray.get(shard) if isinstance(shard, ray.ObjectRef) else shard
    return found.read() if isinstance(found, ParquetShard) else found
