"""Ridge regression of a number on sparse item attributes, out of fold, for all folds at once.

Notation used for shapes: n items, F inputs, K folds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.models.popularity.target_encoding import Numbers, fold_means

ITERATIONS = 200
"""Steps of conjugate gradients at most; real attributes take 30 to 60."""
TOLERANCE = 1e-4
"""Residual, relative to the target, at which a fold is solved: far below what the prediction can be trusted to."""


def fold_ridge(
    inputs: sp.csr_array, target: Numbers, folds: npt.NDArray[np.int64], regularization: float
) -> npt.NDArray[np.float64]:
    """Return ridge coefficients for the target, relative to its mean, without the items of each fold.

    Each fold's coefficients are ``Φᵀα`` with ``(M Φ Φᵀ M + λ I) α = M (y − ȳ)``, where M leaves the fold's items out
    and λ is `regularization` times the mean squared length of a row. The systems of all folds are solved together by
    conjugate gradients that take one product with the sparse Φ for all of them, so nothing of size n × n is made.

    Parameters
    ----------
    inputs
        Φ, CSR ``[n, F]``.
    target
        y ``[n]``.
    folds
        Fold of each item ``[n]``.
    regularization
        λ in units of the mean squared length; positive.

    Returns
    -------
    NDArray
        float64 ``[K + 1, F]``: row k from the items outside fold k, the last row from all items.
    """
    phi = sp.csr_array(inputs, dtype=np.float64)
    transposed = sp.csr_array(phi.T)
    means = fold_means(target, folds)
    mask = (folds[:, None] != np.arange(len(means))).astype(np.float64)  # [n, K + 1]
    squared = float(np.sum(phi.data**2)) / max(phi.shape[0], 1)
    shift = regularization * (squared or 1.0)
    right = mask * (target[:, None] - means)
    solution = np.zeros_like(right)
    residual, direction = right, right
    energy = np.sum(residual**2, axis=0)
    enough = TOLERANCE**2 * energy
    for _ in range(ITERATIONS):
        if (energy <= enough).all():
            break
        image = mask * (phi @ (transposed @ direction)) + shift * direction
        curvature = np.sum(direction * image, axis=0)
        step = energy / np.where(curvature > 0, curvature, 1)
        solution = solution + step * direction
        residual = residual - step * image
        before, energy = energy, np.sum(residual**2, axis=0)
        direction = residual + energy / np.where(before > 0, before, 1) * direction
    return np.asarray((transposed @ solution).T)
