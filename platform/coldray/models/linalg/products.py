"""Products of clicks with dense weights, the step that every list of a linear model takes, and of two sparse matrices.

Notation used for shapes: b rows, I items, n columns, m inner.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.device import cpu_count
from coldray.core.one_thread import one_thread
from coldray.evaluation.topk import run_blocks

Matrix = npt.NDArray[np.float32]
PANEL = 128
"""Columns of a panel of weights, which stays in the cache while all rows are summed up from it."""
_READS_PER_COPY = 4
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

    if n_columns <= PANEL or clicks.nnz < _READS_PER_COPY * clicks.shape[1]:
        return sums(weights)
    found = np.empty((n_rows, n_columns), np.float32)
    for start in range(0, n_columns, PANEL):
        found[:, start : start + PANEL] = sums(weights[:, start : start + PANEL])
    return found


PANEL_ROWS = 64
"""Rows that are made dense at a time: those of a panel ``[m, 64]`` are added up by vector instructions."""
COUNTED_ROWS = 256
"""Rows of ``XᵀX`` that a thread counts at once."""
_VECTOR_GAIN = 24
"""Additions by vector instructions in the time of one of a sparse product."""


class SparseProducts:
    """Products ``A B`` of sparse rows A ``[b, m]`` with one sparse B ``[m, n]``.

    A sparse product does no more than it must, and one addition at a time; with A made dense, all additions for 64 rows
    are done, many at a time. Both add in the order of the inner index, so that the numbers are the same where those
    of A or of B are ones.
    """

    def __init__(self, by_row: sp.csr_array) -> None:
        self._by_row = sp.csr_array(by_row, dtype=np.float32)
        self._by_column = sp.csr_array(self._by_row.T)
        self._lengths = np.diff(self._by_row.indptr)

    @property
    def n_columns(self) -> int:
        """Columns of B."""
        return int(self._by_row.shape[1])

    def pays_dense(self, rows: sp.csr_array) -> bool:
        """Return whether the product with `rows` is faster with these made dense."""
        needed = int(self._lengths[rows.indices].sum())
        return bool(rows.shape[0] * self._by_column.nnz < _VECTOR_GAIN * needed)

    def sparse(self, rows: sp.csr_array) -> sp.csr_array:
        """Return ``A B`` as a sparse matrix ``[b, n]``."""
        return sp.csr_array(rows @ self._by_row)

    def dense(self, rows: sp.csr_array) -> Matrix:
        """Return ``A B``, float32 ``[b, n]``, the faster way."""
        if not self.pays_dense(rows):
            return np.asarray(self.sparse(rows).toarray(), np.float32)
        product = np.empty((rows.shape[0], self.n_columns), np.float32)
        with one_thread():
            for start in range(0, rows.shape[0], PANEL_ROWS):
                panel = rows[start : start + PANEL_ROWS].T.toarray()
                product[start : start + PANEL_ROWS] = click_products(self._by_column, panel).T
        return product


def common_counts(clicks: sp.csr_array) -> Matrix:
    """Return ``XᵀX``, float32 ``[n, n]``, for clicks X ``[m, n]``; counts are exact up to 2²⁴."""
    products, by_column = SparseProducts(clicks), sp.csr_array(clicks.T, dtype=np.float32)
    counts = np.empty((clicks.shape[1], clicks.shape[1]), np.float32)

    def work(rows: slice) -> None:
        counts[rows] = products.dense(by_column[rows])

    run_blocks(work, len(counts), COUNTED_ROWS, cpu_count())
    return counts
