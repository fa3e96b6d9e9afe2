"""Shards of the rows of clicks, with about as many clicks each."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import scipy.sparse as sp


def row_shards(clicks: sp.csr_array, count: int) -> list[slice]:
    """Cut the rows into at most `count` shards of consecutive ones, with about as many clicks and at least one row."""
    ends = np.searchsorted(clicks.indptr, clicks.nnz * np.arange(1, count) / count).tolist()
    return [slice(first, last) for first, last in pairwise([0, *ends, clicks.shape[0]]) if last > first]
