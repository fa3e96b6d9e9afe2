"""The nearest neighbours of items or users: as lists, and as the sparse matrices that add up what they say.

Notation used for shapes: b rows, r those among whom neighbours are sought, n items asked for, I items, k neighbours.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.evaluation.topk import top_k

Neighbours: TypeAlias = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
"""Who they are, nearest first, and how similar they are, ``[n, k]`` both; a similarity of 0 is none."""


def nearest(likeness: npt.NDArray[np.float32], k: int) -> sp.csr_array:
    """Return the `k` largest similarities of each row, those above 0, CSR ``[b, r]``, the nearest of a row first."""
    found, similar = top_k(likeness, min(k, likeness.shape[1]), n_threads=1)
    starts = np.arange(len(found) + 1) * found.shape[1]
    kept = sp.csr_array((similar.ravel(), found.ravel(), starts), shape=likeness.shape)
    kept.eliminate_zeros()
    return kept


def by_neighbour(neighbours: Neighbours, n_items: int) -> sp.csr_array:
    """Return the similarities of n items to their neighbours, CSR ``[I, n]``: a history's product adds them up."""
    found, similar = neighbours
    kept = similar > 0
    starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    return sp.csr_array(sp.csr_array((similar[kept], found[kept], starts), shape=(len(found), n_items)).T)
