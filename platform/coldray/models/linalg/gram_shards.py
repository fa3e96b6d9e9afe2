"""Gram matrices and normal equations of clicks that are on no machine whole, added up over shards of users.

With X the clicks of all users, ``XᵀX = Σ_s X_sᵀX_s`` over shards s of users. Ridge regression on inputs of users
``F = X A``, made of what they clicked by a matrix A with a row an item (its attributes, or factors), needs ``FᵀF`` and
``XᵀF``, sums over users as well. Counts are exact up to 2⁵³.

Notation used for shapes: u users of a shard, I items, f inputs.
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

COUNTED_USERS = 2**24
"""Users whose clicks in common are counted at once: as many as float32 counts exactly."""
INPUT_FLOATS = 2**22
"""Inputs that are held dense at once (32 MiB)."""


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
        for start in range(0, clicks.shape[0], COUNTED_USERS):
            users = sp.csr_array(clicks[start : start + COUNTED_USERS], dtype=np.float32)
            products, by_item = SparseProducts(users), sp.csr_array(users.T)
            for first in range(0, self.n_items, COUNTED_ROWS):
                rows, panel = by_item[first : first + COUNTED_ROWS], sums[0][first : first + COUNTED_ROWS]
                if rows.nnz and products.pays_dense(rows):
                    panel += products.dense(rows)
                elif rows.nnz:
                    # What few users clicked touches few pairs: the others are left alone.
                    counts = products.sparse(rows).tocoo()
                    panel[counts.row, counts.col] += counts.data


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """``FᵀF`` ``[f, f]`` and ``XᵀF`` ``[I, f]`` for inputs ``F = X A`` of users."""

    attributes: sp.csr_array | npt.NDArray[Any]
    """A ``[I, f]``."""

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """Of both."""
        n_items, count = self.attributes.shape
        return [(count, count), (n_items, count)]

    def add(self, clicks: sp.csr_array, sums: list[Sum]) -> None:
        """Add the products of a shard, in blocks of users whose inputs are made dense."""
        _check_items(clicks, self.attributes.shape[0])
        height = max(1, INPUT_FLOATS // max(1, self.attributes.shape[1]))
        for start in range(0, clicks.shape[0], height):
            users = sp.csr_array(clicks[start : start + height], dtype=np.float64)
            inputs = users @ self.attributes
            inputs = inputs.toarray() if sp.issparse(inputs) else np.asarray(inputs, np.float64)
            sums[0] += inputs.T @ inputs
            sums[1] += users.T @ inputs


def _check_items(clicks: sp.csr_array, n_items: int) -> None:
    if clicks.shape[1] != n_items:
        raise DataFormatError(f"A shard has clicks on {clicks.shape[1]:,} items, and there are {n_items:,}.")


def gram(shards: Sequence[Shard], n_items: int, *, workers: int = 1) -> Sum:
    """Return ``XᵀX``, float64 ``[I, I]``, of all shards; exact.

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
    return sum_over_shards(CoClicks(n_items), shards, workers=workers)[0]


def normal_equations(
    shards: Sequence[Shard], attributes: sp.csr_array | npt.NDArray[Any], *, workers: int = 1
) -> tuple[Sum, Sum]:
    """Return ``FᵀF`` ``[f, f]`` and ``XᵀF`` ``[I, f]``, float64, for the inputs ``F = X A`` of all users.

    Parameters
    ----------
    attributes
        A ``[I, f]``, sparse or dense.
    shards, workers
        As for :func:`gram`, whose errors these are too.
    """
    require_workers(workers)
    inner, outer = sum_over_shards(NormalEquations(attributes), shards, workers=workers)
    return inner, outer


def sharded_co_clicks(train: TrainingSet, *, workers: int) -> Matrix:
    """Return ``XᵀX`` of the warm items, float32 ``[W, W]``, counted by the workers of a Ray cluster.

    Counts are exact up to 2²⁴, as in one process. The errors are those of :func:`gram`.
    """
    require_workers(workers)
    clicks = sp.csr_array(train.interactions[:, train.warm_items])
    shards = click_shards(clicks, at_least=workers)
    counts: Matrix = sum_over_shards(CoClicks(clicks.shape[1]), shards, workers=workers, kind=np.float32)[0]
    return counts


def require_workers(workers: int) -> None:
    """Refuse more workers than one where no cluster has them, as :func:`gram` says."""
    if workers > 1:
        from coldray.training.trainer import require_cluster  # loads torch, which one process does without

        require_cluster(workers, use_gpu=False)
