"""Products of clicks with dense weights, the step that every list of a linear model takes.

Notation used for shapes: b rows, I items, n columns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

Matrix = npt.NDArray[np.float32]


def click_products(clicks: sp.csr_array, weights: Matrix) -> Matrix:
    """Return ``X W``, float32 ``[b, n]``, for clicks X ``[b, I]`` and weights W ``[I, n]``.

    Each row is a sum over a bag of rows of W, for which torch has vector instructions; scipy's product adds one number
    at a time.
    """
    if clicks.nnz == 0 or weights.shape[1] == 0:
        return np.zeros((clicks.shape[0], weights.shape[1]), np.float32)
    kind = np.result_type(clicks.indices, clicks.indptr)
    products = torch.nn.functional.embedding_bag(
        torch.from_numpy(clicks.indices.astype(kind, copy=False)),
        torch.from_numpy(np.ascontiguousarray(weights, np.float32)),
        torch.from_numpy(clicks.indptr.astype(kind, copy=False)),
        per_sample_weights=torch.from_numpy(clicks.data.astype(np.float32, copy=False)),
        mode="sum",
        include_last_offset=True,
    )
    result: Matrix = products.numpy()
    return result
