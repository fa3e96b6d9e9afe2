"""How alike two items, or two users, are by how they are rated, or how they rate.

Each is a vector of ratings, and similar is the cosine of two vectors over all of their cells, 0 where there is no
rating. Vectors agree the less the fewer cells they share, as the norms are over all.

- cosine: the ratings as they are;
- Pearson: less the vector's own mean: an item's, or a user's;
- adjusted cosine: less the mean of the other side: of two items, each rating less the mean of the user who gave it
  (Sarwar et al., *Item-Based Collaborative Filtering Recommendation Algorithms*, 2001, Sec. 3.1.3).

With c cells in common, each is multiplied by ``c / (c + shrinkage)`` (Koren, *Factor in the Neighbors*, 2010, Eq. 2).

Notation used for shapes: r rows, c columns, b rows of a block, U users, I items, k neighbours.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.data.dataset import rows_of
from coldray.evaluation.ratings import ones_where_stored
from coldray.evaluation.topk import available_threads, run_blocks, top_k
from coldray.models.base import TrainingSet
from coldray.models.neighbours.nearest import Neighbours

Measure: TypeAlias = Literal["cosine", "pearson", "adjusted_cosine"]
Double: TypeAlias = npt.NDArray[np.float64]
BLOCK_CELLS = 1 << 21
"""Similarities that a thread holds at once at most."""
BLOCK_ROWS = 256
"""Rows whose neighbours a thread looks for at once at most."""
CELL_BYTES = 64
"""Bytes that a similarity takes, with all that is made of it."""


def row_means(ratings: sp.csr_array) -> Double:
    """Return the mean of the stored entries of each row ``[r]``; 0 for a row without any."""
    sums, counts = np.asarray(ratings.sum(axis=1, dtype=np.float64)), np.diff(ratings.indptr)
    means: Double = np.divide(sums, counts, out=np.zeros(len(counts)), where=counts > 0)
    return means


def unit_rows(ratings: sp.csr_array, measure: Measure, column_means: Double) -> sp.csr_array:
    """Return the rows as vectors of length 1, of which products are similarities.

    Parameters
    ----------
    ratings
        CSR ``[r, c]``.
    column_means
        Means of the other side ``[c]``, that adjusted cosine takes off.

    Returns
    -------
    sp.csr_array
        float32 ``[r, c]``; a row in which nothing differs from the mean stays 0.
    """
    counts = np.diff(ratings.indptr)
    values = ratings.data.astype(np.float64)
    if measure == "pearson":
        values = values - np.repeat(row_means(ratings), counts)
    elif measure == "adjusted_cosine":
        values = values - column_means[ratings.indices]
    rows = rows_of(ratings)
    norms = np.sqrt(np.bincount(rows, weights=values**2, minlength=len(counts)))
    # What is left of equal ratings is rounding.
    norms[norms < 1e-6] = np.inf
    return sp.csr_array((np.float32(values / norms[rows]), ratings.indices, ratings.indptr), shape=ratings.shape)


def similarities(left: sp.csr_array, right: sp.csr_array, shrinkage: float) -> npt.NDArray[np.float32]:
    """Return the similarities above 0 of unit rows ``[b, c]`` with unit columns ``[c, r]``, float32 ``[b, r]``."""
    found: npt.NDArray[np.float32] = np.maximum((left @ right).toarray(), np.float32(0))
    if shrinkage > 0:
        common = (ones_where_stored(left) @ ones_where_stored(right)).toarray()
        found *= common / (common + np.float32(shrinkage))
    return found


def similarly_rated(train: TrainingSet, *, k: int, measure: Measure, shrinkage: float) -> Neighbours:
    """Return the `k` items rated most like each item, and how similar they are.

    Returns
    -------
    Neighbours
        Items, int32 ``[I, k]``, nearest first, and similarities, float32 ``[I, k]``, both 0 where an item has fewer
        neighbours; I columns where k is larger. An item is no neighbour of itself.
    """
    ratings = train.interactions
    vectors = unit_rows(sp.csr_array(ratings.T), measure, row_means(ratings))  # [I, U]
    n_items, across = vectors.shape[0], sp.csr_array(vectors.T)
    count = min(k, n_items)
    found, similar = np.zeros((n_items, count), np.int32), np.zeros((n_items, count), np.float32)

    def work(rows: slice) -> None:
        likeness = similarities(vectors[rows], across, shrinkage)
        own = np.arange(rows.start, rows.stop)
        likeness[own - rows.start, own] = 0
        places, similar[rows] = top_k(likeness, count, n_threads=1)
        found[rows] = np.where(similar[rows] > 0, places, 0)

    run_blocks(work, n_items, block_rows(n_items), available_threads())
    return found, similar


def block_rows(n_columns: int) -> int:
    """Return the height of a block of similarities."""
    return min(BLOCK_ROWS, max(1, BLOCK_CELLS // max(1, n_columns)))
