"""Ridge regressions of what users rated on fixed factors of items: how a user is folded in.

User u with the ratings of the items I_u, less what is expected of them, has ``argmin_w Σ_{i ∈ I_u} (r_ui − wᵀy_i)² +
Σ_f λ_uf w_f²``. Only items that he rated are in the sum, unlike in :mod:`~coldray.models.linalg.weighted_ridge`.

Notation used for shapes: b users, I items, f factors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Double = npt.NDArray[np.float64]
BLOCK_FLOATS = 1 << 20
"""float64 values of the matrices that are solved with at once: 8 MiB."""


def fold_in(residuals: sp.csr_array, factors: npt.NDArray[np.floating[Any]], penalties: Double) -> Double:
    """Solve exactly for the weights of each user.

    Parameters
    ----------
    residuals
        CSR ``[b, I]``; every stored entry is a rating, that of 0 too.
    factors
        y ``[I, f]``.
    penalties
        λ, positive, ``[b, f]``.

    Returns
    -------
    Double
        float64 ``[b, f]``; zeros for a user without ratings.
    """
    n_users, n_factors = penalties.shape
    weights = np.zeros((n_users, n_factors))
    users = np.flatnonzero(np.diff(residuals.indptr))
    height = max(1, BLOCK_FLOATS // n_factors**2)
    for first in range(0, len(users), height):
        block = users[first : first + height]
        left, right = np.empty((len(block), n_factors, n_factors)), np.empty((len(block), n_factors, 1))
        for place, user in enumerate(block):
            rated = slice(residuals.indptr[user], residuals.indptr[user + 1])
            known = factors[residuals.indices[rated]].astype(np.float64)
            left[place] = known.T @ known
            right[place, :, 0] = known.T @ residuals.data[rated]
        diagonal = np.arange(n_factors)
        left[:, diagonal, diagonal] += penalties[block]
        weights[block] = np.linalg.solve(left, right)[..., 0]
    return weights
