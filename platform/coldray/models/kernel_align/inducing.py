"""A Gaussian process over many items through a few of them: the inducing points.

The covariance of W warm items is taken for what m of them, the inducing items Z, explain: ``K ≈ VᵀV`` with
``V = L⁻¹ K_Zw`` and ``K_ZZ = LLᵀ``. Then ``B = I + V Λ⁻¹ Vᵀ`` ``[m, m]`` is all that is factorised, and nothing of size
W × W exists. The mean of a new item is ``W_:j = Λ⁻¹ Vᵀ B⁻¹ c_j`` and its variance ``K_jj + σ² − c_jᵀ (I − B⁻¹) c_j``,
with its coordinates ``c_j = L⁻¹ k_Zj``. Λ = σ²I is the deterministic training conditional (Quiñonero-Candela and
Rasmussen, *A unifying view of sparse approximate Gaussian process regression*, JMLR 2005, Eq. 20); with what Z leaves
unexplained of each warm item added to Λ it is the fully independent one (Eq. 24). Both are exact if Z is all items.

Coordinates are used in place of ``K_wZ Q⁻¹`` with ``Q = K_ZZ + K_Zw Λ⁻¹ K_wZ``: that matrix has entries that cancel,
and float32 does not carry them.

Notation used for shapes: W warm items, m inducing items, n items asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from coldray.core.errors import ConfigError, SingularMatrixError
from coldray.core.memory import require_memory
from coldray.features.feature_set import FeatureSet
from coldray.models.kernel_align.covariance import Double, ItemCovariance
from coldray.models.kernel_align.kernels import Matrix

Positions = npt.NDArray[np.intp]
_JITTER = 1e-5
"""Added to the diagonal of K_ZZ, in units of its mean: float32 cells leave eigenvalues that far off."""
_HELD_OUT = 512
"""Warm items on which it is measured what the inducing ones leave unexplained."""
ROWS_PER_BLOCK = 1024
"""Warm items whose covariances with Z are held in float64 at once."""


def choose_inducing(clicks: npt.NDArray[np.integer[Any]], *, count: int, seed: int) -> Positions:
    """Return the positions of the inducing items, ascending ``[m]``, drawn in proportion to their clicks.

    Scores are sums over what users clicked, so an item counts as often as it is clicked. Points that the others explain
    least (a pivoted Cholesky factorisation) are the odd ones, which few users click; drawn in proportion to clicks and
    to what the ones before leave unexplained, they lose as much as by clicks alone.

    Parameters
    ----------
    clicks
        Clicks of each warm item ``[W]``, all positive.
    count
        Items wanted; all of them where there are fewer.
    """
    if count < 1:
        raise ConfigError(f"{count} inducing items were asked for; use at least 1.")
    chance = clicks / clicks.sum()
    drawn = np.random.default_rng(seed).choice(len(clicks), min(count, len(clicks)), replace=False, p=chance)
    return np.sort(drawn).astype(np.intp)


def enough_inducing(
    covariance: ItemCovariance,
    warm: FeatureSet,
    clicks: npt.NDArray[np.integer[Any]],
    *,
    most: int,
    tolerance: float,
    seed: int,
) -> Positions:
    """Return as many drawn inducing items as explain the others up to a tolerance, ascending ``[m]``.

    Of items drawn after them, in proportion to clicks as well, the m first explain ``K_jj − ‖L⁻¹k_Zj‖²`` less than all
    of ``K_jj``: one factorisation of the covariance of `most` says that of every m.

    Parameters
    ----------
    clicks
        Clicks of each warm item ``[W]``, all positive.
    most
        Inducing items at most; they are taken where no fewer are enough.
    tolerance
        Largest unexplained share of ``K_jj + σ²``, in the mean of the clicked items.
    """
    n_warm = warm.n_items
    if n_warm <= most // 2 or n_warm < 8:
        return np.arange(n_warm, dtype=np.intp)
    held_out = min(_HELD_OUT, n_warm // 4)
    order = np.random.default_rng(seed).choice(n_warm, n_warm, replace=False, p=clicks / clicks.sum())
    drawn, others = np.split(order[: min(most, n_warm - held_out) + held_out].astype(np.intp), [-held_out])
    require_memory(
        24 * len(drawn) ** 2 + 24 * len(drawn) * held_out,
        purpose=f"The covariance of {len(drawn):,} inducing items",
        way_out="Lower most_inducing.",
    )
    variances = covariance.variances(warm)
    factor = _factor(covariance, warm.take(drawn), variances[drawn])
    between = across(covariance, warm, drawn, others)
    explained = scipy.linalg.solve_triangular(factor, between.T, lower=True, check_finite=False) ** 2
    whole = float(variances[others].mean())
    unexplained = (whole - np.cumsum(explained.mean(axis=1))) / (whole + covariance.weights.noise)
    enough = np.flatnonzero(unexplained <= tolerance)
    count = int(enough[0]) + 1 if len(enough) else len(drawn)
    return np.sort(drawn[:count])


@dataclass(frozen=True, eq=False)
class InducingPosterior:
    """What the clicks of W warm items say of any item, through m of them."""

    factor: Double
    """Lower factor L of K_ZZ ``[m, m]``."""
    inner: Double
    """Lower factor of B ``[m, m]``."""
    projection: Matrix
    """``Vᵀ B⁻¹ / σ²`` ``[W, m]``: times the coordinates of an item, its weights on the warm items."""

    def coordinates(self, between: npt.NDArray[np.floating[Any]]) -> Matrix:
        """Return ``c = L⁻¹ k_Zj``, float32 ``[m, n]``, of items with the covariances ``k_Zj`` ``[m, n]``."""
        solved = scipy.linalg.solve_triangular(self.factor, between.astype(np.float64), lower=True, check_finite=False)
        return np.asarray(solved, np.float32)

    def explained(self, coordinates: Matrix) -> Matrix:
        """Return ``cᵀ(I − B⁻¹)c`` of each item, float32 ``[n]``: by how much the clicks reduce its variance."""
        inner = scipy.linalg.solve_triangular(
            self.inner, coordinates.astype(np.float64), lower=True, check_finite=False
        )
        reduced = np.einsum("mn,mn->n", coordinates, coordinates, dtype=np.float64) - np.einsum(
            "mn,mn->n", inner, inner
        )
        return np.asarray(np.maximum(reduced, 0), np.float32)


def inducing_posterior(covariance: ItemCovariance, warm: FeatureSet, inducing: Positions) -> InducingPosterior:
    """Condition the process on the warm items through the inducing ones.

    Parameters
    ----------
    warm
        Features of the warm items.
    inducing
        Positions of Z among them ``[m]``, each at most once.

    Raises
    ------
    SingularMatrixError
        If K_ZZ or B is not positive definite to working precision.
    CatalogTooLargeError
        If the matrices do not fit in memory.
    """
    n_warm, m = warm.n_items, len(inducing)
    rows = min(ROWS_PER_BLOCK, n_warm)
    require_memory(
        4 * n_warm * m + 32 * m**2 + 40 * rows * m,
        purpose=f"The covariances of {n_warm:,} items with {m:,} inducing ones",
        way_out="Use fewer inducing items.",
    )
    sigma, variances = covariance.weights.noise, covariance.variances(warm)
    factor = _factor(covariance, warm.take(inducing), variances[inducing])
    projection = np.empty((n_warm, m), np.float32)
    inner = np.eye(m)
    blocks = [np.arange(start, min(start + rows, n_warm)) for start in range(0, n_warm, rows)]
    for block in blocks:
        between = across(covariance, warm, inducing, block)
        explained = scipy.linalg.solve_triangular(factor, between.T, lower=True, check_finite=False)  # V [m, rows]
        inner += explained @ explained.T / sigma
        projection[block] = explained.T
    inner = _cholesky(
        inner, f"The matrix of {m:,} inducing items with noise {sigma:.3g} is not positive definite. Raise min_noise."
    )
    for block in blocks:
        solved = scipy.linalg.cho_solve((inner, True), projection[block].T.astype(np.float64), check_finite=False)
        projection[block] = solved.T / sigma
    return InducingPosterior(factor, inner, projection)


def across(covariance: ItemCovariance, items: FeatureSet, inducing: Positions, block: Positions) -> Double:
    """Return the covariances of a block of items with Z, float64 ``[rows, m]``.

    Where an attribute is missing, an item shares it with itself, which kernels do not say.
    """
    rows = items.take(block)
    between = covariance.between(rows, items.take(inducing)).astype(np.float64)
    same, columns = np.nonzero(block[:, None] == inducing)
    between[same, columns] = covariance.variances(rows)[same]
    return between


def _factor(covariance: ItemCovariance, points: FeatureSet, variances: Matrix) -> Double:
    matrix = covariance.between(points, points).astype(np.float64)
    jitter = _JITTER * float(variances.mean())
    matrix[np.diag_indices_from(matrix)] = variances + jitter
    return _cholesky(
        matrix,
        f"The covariance of {points.n_items:,} inducing items with jitter {jitter:.3g} is not positive definite. "
        "Use fewer inducing items.",
    )


def _cholesky(matrix: Double, message: str) -> Double:
    factor, failed = scipy.linalg.lapack.dpotrf(matrix, lower=True, overwrite_a=True, clean=True)
    if failed:
        raise SingularMatrixError(message)
    lower: Double = factor
    return lower
