"""Products of clicks with dense weights, the step that every list of a linear model takes.

Notation used for shapes: b rows, I items, n columns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Matrix = npt.NDArray[np.float32]
PANEL = 128
"""Columns of a panel of weights, which stays in the cache while all rows are summed up from it."""
READS_PER_COPY = 4
"""Times that a row of weights has to be read, on average, for the copy of panels to pay."""


def click_products(clicks: sp.csr_array, weights: Matrix) -> Matrix:
    """Return ``X W``, float32 ``[b, n]``, for clicks X ``[b, I]`` and weights W ``[I, n]``.

    Each row is a sum over a bag of rows of W, for which torch has vector instructions; scipy's product adds one number
    at a time.
    """
    n_rows, n_columns = clicks.shape[0], weights.shape[1]
    if clicks.nnz == 0 or n_columns == 0:
        return np.zeros((n_rows, n_columns), np.float32)
    import torch  # takes two seconds, and a worker that only fits does without

    kind = np.result_type(clicks.indices, clicks.indptr)
    columns, starts, values = (
        torch.from_numpy(part.astype(dtype, copy=False))
        for part, dtype in ((clicks.indices, kind), (clicks.indptr, kind), (clicks.data, np.float32))
    )

    def sums(panel: Matrix) -> Matrix:
        products = torch.nn.functional.embedding_bag(
            columns,
            torch.from_numpy(np.ascontiguousarray(panel, np.float32)),
            starts,
            per_sample_weights=values,
            mode="sum",
            include_last_offset=True,
        )
        result: Matrix = products.numpy()
        return result

    if n_columns <= PANEL or clicks.nnz < READS_PER_COPY * clicks.shape[1]:
        return sums(weights)
    found = np.empty((n_rows, n_columns), np.float32)
    for start in range(0, n_columns, PANEL):
        found[:, start : start + PANEL] = sums(weights[:, start : start + PANEL])
    return found
