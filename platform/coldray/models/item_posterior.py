"""What a Gaussian process over items says of an item from its attributes, given the warm items.

The weights of an item on the warm items are its conditional mean, ``W = (K_ww + σ²I)⁻¹ k_w``, and its variance is
``K_jj + σ² − k_wᵀ(K_ww + σ²I)⁻¹k_w`` (Rasmussen and Williams, *Gaussian Processes for Machine Learning*, 2006, Eqs.
2.25 and 2.26).

Notation used for shapes: W warm items, C cold items, I all items, n items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from coldray.errors import SingularMatrixError
from coldray.features.feature_set import FeatureSet
from coldray.memory import require_memory
from coldray.models.base import TrainingSet
from coldray.models.item_covariance import ItemCovariance, Weights, learn_weights
from coldray.models.item_profiles import item_profiles
from coldray.models.kernels import KernelBasis, KernelMatrices

Matrix = npt.NDArray[np.float32]


def kernel_matrices(train: TrainingSet) -> KernelMatrices:
    """Return the kernels between the warm items and all items."""
    require_memory(
        2 * kernel_bytes(train),
        purpose=f"The kernels of {train.features.n_items:,} items",
        way_out="Leave attributes out (features.attributes), or use fewer items.",
    )
    warm = train.features.take(train.warm_items)
    return KernelBasis.of(warm).matrices(warm, train.features)


def kernel_bytes(train: TrainingSet) -> int:
    """Return what :func:`kernel_matrices` holds."""
    basis = KernelBasis.of(train.features.take(train.warm_items))
    return 4 * len(train.warm_items) * train.features.n_items * (len(basis.terms) + len(basis.numbers))


def learned_covariance(
    train: TrainingSet,
    *,
    n_factors: int,
    subset: int,
    steps: int,
    min_noise: float,
    seed: int,
    matrices: KernelMatrices | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the logarithms of the learned weights, and the likelihood on the way.

    `matrices` are those of :func:`kernel_matrices`; without them, those of the subset are made.
    """
    profiles = item_profiles(train, dim=n_factors)
    warm = train.features.take(train.warm_items)
    basis = KernelBasis.of(warm)
    chosen = np.sort(np.random.default_rng(seed).permutation(warm.n_items)[:subset])
    held = matrices.take(chosen, train.warm_items[chosen]) if matrices else None
    weights, values = learn_weights(basis, warm.take(chosen), profiles[chosen], held, steps=steps, min_noise=min_noise)
    return weights.logarithms(), values


def covariance_of(warm: FeatureSet, logarithms: npt.NDArray[np.float64]) -> ItemCovariance:
    """Return the covariance whose kernels are fitted on `warm` and whose weights have these logarithms."""
    basis = KernelBasis.of(warm)
    shape = Weights.initial(len(basis.terms), len(basis.product), len(basis.numbers))
    return ItemCovariance(basis, shape.moved(logarithms))


def conditional(
    train: TrainingSet, *, logarithms: tuple[float, ...], matrices: KernelMatrices | None = None
) -> tuple[Matrix, Matrix, Matrix]:
    """Return what the process says of all items given the warm ones.

    Parameters
    ----------
    logarithms
        Those of the covariance's weights.
    matrices
        Those of :func:`kernel_matrices`, if they are there already.

    Returns
    -------
    tuple
        The precision ``(K_ww + σ²I)⁻¹`` ``[W, W]``, the weights of the cold items ``[W, C]``, and the variances of all
        ``[I]`` with the noise; float32.

    Raises
    ------
    SingularMatrixError
        If the precision does not exist to working precision.
    """
    warm, cold = train.features.take(train.warm_items), train.features.take(train.cold_items)
    covariance = covariance_of(warm, np.asarray(logarithms))
    noise = covariance.weights.noise
    total = covariance.of(matrices) if matrices else covariance.between(warm, train.features)
    between = total[:, train.cold_items]
    inverse = _inverse(covariance.noisy(warm, total[:, train.warm_items]))
    del total
    if inverse is None:
        raise SingularMatrixError(
            f"The covariance of {warm.n_items:,} items with noise {noise:.3g} is not positive definite to working "
            f"precision; its least definite part is {covariance.least_definite(warm)}. Raise min_noise, or leave that "
            "attribute out."
        )
    means = np.asarray(inverse @ between, np.float32)
    variances = np.empty(train.features.n_items, np.float32)
    variances[train.warm_items] = 2 * noise - noise**2 * np.diag(inverse)  # k_w is a column of K_ww
    variances[train.cold_items] = conditional_variance(covariance, cold, between, means)
    return inverse, means, variances


def conditional_variance(covariance: ItemCovariance, items: FeatureSet, between: Matrix, means: Matrix) -> Matrix:
    """Return the variance with the noise of each item ``[n]``, from its ``k_w`` and its weights ``[W, n]``."""
    explained = np.einsum("wn,wn->n", between, means)
    variances = covariance.variances(items) + np.float32(covariance.weights.noise) - explained
    return np.asarray(np.maximum(variances, 0), np.float32)


def _inverse(matrix: npt.NDArray[np.float64]) -> Matrix | None:
    """Return the inverse, or None for a matrix that is not positive definite."""
    # The transpose, which is the same matrix, has the order that LAPACK wants: no copy is made.
    factor, failed = scipy.linalg.lapack.dpotrf(matrix.T, lower=True, overwrite_a=True, clean=True)
    if failed:
        return None
    lower: npt.NDArray[Any]
    lower, _ = scipy.linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)
    inverse: Matrix = lower.astype(np.float32)
    inverse[np.diag_indices_from(inverse)] *= 0.5
    inverse += inverse.T
    return np.ascontiguousarray(inverse)
