"""ItemKNN: an item is scored by how much of what a user clicked is among the items that the same users click.

Item j has the neighbours N(j), the k items most similar to it by the users they have in common
(:mod:`~coldray.models.neighbours.similarity`), and user u the score ``Σ_{i ∈ N(j), i clicked} s_ij``: ``X S`` with k
entries in each *column* of S. Neighbours are kept per target item, not per item of the history: an item that everyone
clicks is similar to all, and a list of the k items nearest to each clicked one would hold little else.

An item without clicks has no neighbour and scores 0, the lowest score there is.

Notation used for shapes: I items, n items asked for, k neighbours, b rows of a block.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.device import cpu_count
from coldray.core.errors import DataError
from coldray.evaluation.ranking import Scorer
from coldray.evaluation.topk import run_blocks, top_k
from coldray.models.base import Items, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg.products import PANEL_ROWS, Matrix, SparseProducts
from coldray.models.neighbours.nearest import Neighbours, by_neighbour
from coldray.models.neighbours.similarity import Measure, NeighbourConfig, click_similarity
from coldray.models.state import ArrayModel
from coldray.training.options import FitOptions

_BLOCK_CELLS = 1 << 21
"""Co-click counts that a thread holds at once at most."""
_BLOCK_ITEMS = 256
"""Items whose neighbours a thread looks for at once at most."""
_CELL_BYTES = 64
"""Bytes that a co-click count takes, with all that is made of it."""


class ItemKNNConfig(NeighbourConfig):
    """Parameters of :class:`ItemKNN`."""


def similar_items(train: TrainingSet, *, k: int, measure: Measure, shrinkage: float) -> Neighbours:
    """Return the `k` items most similar to each item, and how similar they are.

    Parameters
    ----------
    k, measure, shrinkage
        As in :class:`ItemKNNConfig`.

    Returns
    -------
    Neighbours
        Items, int32 ``[I, k]``, nearest first, and similarities, float32 ``[I, k]``, both 0 where an item has
        fewer neighbours; I columns where k is larger. An item is no neighbour of itself.
    """
    n_users, n_items = train.interactions.shape
    products, counts, count = SparseProducts(train.interactions), train.clicks, min(k, n_items)
    by_item = sp.csr_array(train.interactions.T, dtype=np.float32)
    found, similar = np.zeros((n_items, count), np.int32), np.zeros((n_items, count), np.float32)

    def work(rows: slice) -> None:
        met, together = _common_users(products, by_item[rows])
        columns, own = np.flatnonzero(met), np.arange(rows.start, rows.stop)
        likeness = click_similarity(
            together, counts[own], counts[columns], size=n_users, measure=measure, shrinkage=shrinkage
        )
        known = np.flatnonzero(met[own])
        likeness[known, np.searchsorted(columns, own[known])] = 0
        width = min(count, len(columns))
        if width:
            places, similar[rows, :width] = top_k(likeness, width, n_threads=1)
            found[rows, :width] = np.where(similar[rows, :width] > 0, columns[places], 0)

    run_blocks(work, n_items, _block_items(n_items), cpu_count())
    return found, similar


def _common_users(products: SparseProducts, rows: sp.csr_array) -> tuple[npt.NDArray[np.bool_], Matrix]:
    """Return which items those of `rows` may share users with ``[I]``, and how many users they share ``[b, n]``."""
    met = np.ones(products.n_columns, np.bool_)
    if products.pays_dense(rows):
        return met, products.dense(rows)
    together = products.sparse(rows)
    met[:] = False
    met[together.indices] = True  # of a large catalogue a few items have met few others
    return met, together.toarray() if met.all() else together[:, np.flatnonzero(met)].toarray()


def _block_items(n_items: int) -> int:
    return min(_BLOCK_ITEMS, max(1, _BLOCK_CELLS // n_items))


def counting_bytes(n_users: int, n_items: int) -> int:
    """Return what :func:`similar_items` takes beside the neighbours."""
    return cpu_count() * (_CELL_BYTES * _block_items(n_items) * n_items + 4 * PANEL_ROWS * n_users)


class ItemKNN(ArrayModel[ItemKNNConfig]):
    """The clicks among an item's nearest neighbours, which clicks choose."""

    name: ClassVar[str] = "item_knn"
    config_type: ClassVar[type[ItemKNNConfig]] = ItemKNNConfig
    item_array: ClassVar[str] = "neighbours"

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Find the neighbours of all items.

        Raises
        ------
        DataError
            If no item has a click.
        CatalogTooLargeError
            If the neighbours do not fit in memory.
        """
        self.check_options(options)
        if train.interactions.nnz == 0:
            raise DataError("No item has a click, so there is no neighbour. Filter less, or check the split.")
        self.check_size(*train.interactions.shape)
        config = self.config
        found, similar = (computations or Computations()).get(
            similar_items, train, k=config.k, measure=config.measure, shrinkage=config.shrinkage
        )
        self._state = {"neighbours": found, "similarities": similar}
        return self

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the counts of the items that are looked at at once take, and the neighbours that are kept."""
        return counting_bytes(n_users, n_items) + 24 * n_items * min(self.config.k, n_items)

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"The neighbours of {n_items:,} items",
            way_out="Use a smaller k, fewer items through the filters (min_item_interactions), or more memory.",
        )

    def scorer(self, items: Items) -> Scorer:
        """Return the function that adds up, for each of `items`, its neighbours among the clicks."""
        self.check_fitted()
        known = self._state["neighbours"][items], self._state["similarities"][items]
        return SparseProducts(by_neighbour(known, self.n_items)).dense
