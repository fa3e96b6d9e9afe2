"""What the clicks say of an item, as a short vector: the target of models that predict it from attributes.

Notation used for shapes: U users, W warm items, p dimensions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg

from coldray.core.device import symmetric_eigen
from coldray.core.errors import DataError
from coldray.core.memory import require_memory
from coldray.models.base import TrainingSet

Profiles = npt.NDArray[np.float32]
_DENSE_ITEMS = 1500
"""Warm items up to which all singular vectors are computed at once; beyond, only those that are kept are sought."""


def item_profiles(train: TrainingSet, *, dim: int, shrinkage: float = 5.0) -> Profiles:
    """Return the profile of each warm item, float32 ``[W, p]``.

    The clicks of an item, a column of X, are damped by ``(n_i + shrinkage)^−½`` so that popular items do not rule, and
    written in the basis of their `dim` leading left singular vectors: the profiles are ``V·s`` of ``X D = U s Vᵀ``,
    scaled to unit mean square. Cosines between profiles are those between the damped columns, as far as the leading
    vectors carry them.

    Beyond `_DENSE_ITEMS` items, singular values that coincide exactly leave the basis open, and then it differs from
    one call to the next; cosines do not.

    Parameters
    ----------
    dim
        Dimensions wanted; fewer come back where X has fewer rows or columns, or a lower rank.
    shrinkage
        Clicks added to every item's count.

    Raises
    ------
    DataError
        If no item has a click.
    CatalogTooLargeError
        If the matrices do not fit in memory.
    """
    warm = train.warm_items
    if len(warm) == 0:
        raise DataError("No item has a click, so there is nothing to learn from. Filter less, or check the split.")
    clicks = sp.csr_array(train.interactions[:, warm], dtype=np.float64)
    damping = (train.clicks[warm] + shrinkage) ** -0.5
    damped = sp.csr_array(clicks @ sp.diags_array(damping))
    values, vectors = _leading(damped, dim)
    keep = values > 1e-6 * values[0]
    profiles = vectors[:, keep] * values[keep]
    signs = np.sign(profiles[np.abs(profiles).argmax(axis=0), np.arange(profiles.shape[1])])
    scaled = profiles * (signs / np.sqrt(np.mean(profiles**2)))
    return np.ascontiguousarray(scaled, dtype=np.float32)


def _leading(matrix: sp.csr_array, dim: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the leading singular values, descending, and the right singular vectors as columns."""
    n_users, n_items = matrix.shape
    dim = min(dim, n_users, n_items)
    if n_items <= _DENSE_ITEMS or dim >= min(n_users, n_items):
        require_memory(
            24 * n_items**2,
            purpose=f"The profiles of {n_items:,} items in {dim} dimensions",
            way_out="Use fewer dimensions (profile_dim) or fewer items.",
        )
        values, vectors = symmetric_eigen((matrix.T @ matrix).toarray(), "cpu")
        return np.sqrt(np.maximum(values[::-1][:dim], 0)), vectors[:, ::-1][:, :dim]
    # A seeded start: a plain one, such as ones, is an eigenvector of many a regular X, and at an eigenvector ARPACK
    # starts again from a draw that nothing seeds.
    generator = np.random.default_rng(0)
    _, values, right = scipy.sparse.linalg.svds(matrix, k=dim, random_state=generator, return_singular_vectors="vh")
    order = np.argsort(-values)
    return values[order], right[order].T
