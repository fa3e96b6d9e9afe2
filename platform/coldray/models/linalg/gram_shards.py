"""Gram matrices of clicks that are on no machine whole, added up over shards of users.

With X the clicks of all users, ``XᵀX = Σ_s X_sᵀX_s`` over shards s of users. Counts are exact up to 2⁵³.

Notation used for shapes: u users of a shard, I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import DataFormatError
from coldray.models.base import TrainingSet
from coldray.models.linalg.products import COUNTED_ROWS, Matrix, SparseProducts
from coldray.models.linalg.sharded import Shard, Sum, click_shards, sum_over_shards

_COUNTED_USERS = 2**24
"""Users whose clicks in common are counted at once: as many as float32 counts exactly."""


@dataclass(frozen=True)
class CoClicks:
    """``XᵀX``, the number of users who clicked both of two items ``[I, I]``."""

    n_items: int

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """The one matrix."""
        return [(self.n_items, self.n_items)]

    def add(self, clicks: sp.csr_array, sums: list[Sum]) -> None:
        """Count the clicks of a shard, ones ``[u, I]``."""
        _check_items(clicks, self.n_items)
        for start in range(0, clicks.shape[0], _COUNTED_USERS):
            users = sp.csr_array(clicks[start : start + _COUNTED_USERS], dtype=np.float32)
            products, by_item = SparseProducts(users), sp.csr_array(users.T)
            for first in range(0, self.n_items, COUNTED_ROWS):
                rows, panel = by_item[first : first + COUNTED_ROWS], sums[0][first : first + COUNTED_ROWS]
                if rows.nnz and products.pays_dense(rows):
                    panel += products.dense(rows)
                elif rows.nnz:
                    # What few users clicked touches few pairs: the others are left alone.
                    counts = products.sparse(rows).tocoo()
                    panel[counts.row, counts.col] += counts.data


def _check_items(clicks: sp.csr_array, n_items: int) -> None:
    if clicks.shape[1] != n_items:
        raise DataFormatError(f"A shard has clicks on {clicks.shape[1]:,} items, and there are {n_items:,}.")


def gram(
    shards: Sequence[Shard], n_items: int, *, workers: int = 1, kind: npt.DTypeLike = np.float64
) -> npt.NDArray[Any]:
    """Return ``XᵀX`` ``[I, I]`` of all shards, as numbers of that `kind`; exact up to 2²⁴ in float32.

    Parameters
    ----------
    shards
        Clicks ``[u, I]``, parquet files to read them from, or references to either.
    workers
        Tasks of the Ray cluster that count side by side; 1 counts in this process.

    Raises
    ------
    CatalogTooLargeError
        If the matrix does not fit in memory.
    DataError
        If a shard cannot be read.
    ClusterError
        If there are to be several workers and this process is connected to no cluster.
    ConfigError
        If the cluster has fewer CPUs than there are to be workers.
    TrainingFailedError
        If workers were lost more often than allowed.
    """
    require_workers(workers)
    return sum_over_shards(CoClicks(n_items), shards, workers=workers, kind=kind)[0]


def sharded_co_clicks(train: TrainingSet, *, workers: int) -> Matrix:
    """Return ``XᵀX`` of the warm items, float32 ``[W, W]``, counted by the workers of a Ray cluster.

    Counts are exact up to 2²⁴, as in one process. The errors are those of :func:`gram`.
    """
    clicks = sp.csr_array(train.interactions[:, train.warm_items])
    return gram(click_shards(clicks, at_least=workers), clicks.shape[1], workers=workers, kind=np.float32)


def require_workers(workers: int) -> None:
    """Refuse more workers than one where no cluster has them, as :func:`gram` says."""
    if workers > 1:
        from coldray.training.trainer import require_cluster  # loads torch, which one process does without

        require_cluster(workers, use_gpu=False)
