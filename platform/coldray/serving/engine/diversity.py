"""Lists whose items are not all alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp


def diverse(vectors: sp.csr_array, values: npt.NDArray[np.floating[Any]], weight: float, k: int) -> list[int]:
    """Return k places in a pool by maximal marginal relevance (Carbonell and Goldstein, 1998).

    Parameters
    ----------
    vectors
        What is known of the p items of the pool, each of length 1: CSR ``[p, d]``.
    values
        What each is worth ``[p]``, descending.
    weight
        0 orders by worth alone, 1 by how little an item is like those before it.
    k
        Places wanted, p at most.
    """
    spread = float(values[0] - values[-1])
    relevance = (values - values[-1]) / spread if spread > 0 else np.ones_like(values)
    like = np.asarray((vectors @ vectors.T).todense(), np.float32)
    chosen: list[int] = []
    nearest_chosen = np.zeros(len(values), np.float32)
    open_ = np.ones(len(values), np.bool_)
    for _ in range(k):
        gain = np.where(open_, (1 - weight) * relevance - weight * nearest_chosen, -np.inf)
        best = int(gain.argmax())
        chosen.append(best)
        open_[best] = False
        nearest_chosen = np.maximum(nearest_chosen, like[best])
    return chosen
