"""What a Gaussian process over items says of an item from its attributes, given the warm items.

The weights of an item on the warm items are its conditional mean, ``W = (K_ww + σ²I)⁻¹ k_w``, and its variance is
``K_jj + σ² − k_wᵀ(K_ww + σ²I)⁻¹k_w`` (Rasmussen and Williams, *Gaussian Processes for Machine Learning*, 2006, Eqs.
2.25 and 2.26).

Notation used for shapes: W warm items, C cold items, I all items, n items.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from coldray.core.device import cpu_count
from coldray.core.errors import SingularMatrixError
from coldray.core.memory import require_memory
from coldray.evaluation.topk import run_blocks
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.kernel_align.covariance import ItemCovariance, Weights, learn_weights
from coldray.models.kernel_align.kernels import KernelBasis, KernelMatrices
from coldray.models.linalg.panel_cholesky import PANEL, PanelCholesky, Real, cells_of
from coldray.models.profiles import Profiles

Matrix = npt.NDArray[np.float32]
DOUBLE_ITEMS = 8192
"""Warm items up to which the covariance is factorised in double precision (half a GiB) from the start."""
_MAX_ERROR = 1e-3
"""Relative error of solutions up to which a factor in single precision is enough; no list of ten tells it from none."""
NOT_MADE = np.float32(-1)
"""Stands for the variance of a warm item, until somebody asks for it."""
_TILE_ROWS = 256
"""Rows of a panel that a thread makes at once: a tile stays in the cache."""
_TEMPORARIES = 5
"""Panels in single precision that are held at the peak, beside the factor and the weights."""


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
    subset: int,
    steps: int,
    min_noise: float,
    seed: int,
    profiles: Profiles,
    matrices: KernelMatrices | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the logarithms of the learned weights, and the likelihood on the way.

    `profiles` are those of :func:`~coldray.models.profiles.item_profiles`, and `matrices` those of
    :func:`kernel_matrices`; without these, those of the subset are made.
    """
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
) -> tuple[Real, Matrix, Matrix]:
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
        The cells of the factor of ``K_ww + σ²I`` (:class:`~coldray.models.linalg.panel_cholesky.PanelCholesky`), the
        weights of the cold items ``[W, C]``, float32, and the variances of all with the noise, float32 ``[I]``;
        those of warm items are `NOT_MADE`, as they cost as much as the factor: see :func:`warm_variance`.

    Raises
    ------
    SingularMatrixError
        If the covariance is not positive definite to working precision.
    CatalogTooLargeError
        If the matrices do not fit in memory.
    """
    warm, cold = train.features.take(train.warm_items), train.features.take(train.cold_items)
    covariance = covariance_of(warm, np.asarray(logarithms))
    across = _Across(covariance, train, matrices)
    factor = _factorised(across, warm)
    means = np.empty((warm.n_items, cold.n_items), np.float32)
    variances = np.full(train.features.n_items, NOT_MADE, np.float32)
    prior = covariance.variances(cold) + np.float32(covariance.weights.noise)
    for start in range(0, cold.n_items, PANEL):
        block = slice(start, min(start + PANEL, cold.n_items))
        between = across.cells(0, train.cold_items[block])
        means[:, block] = factor.solve(between)
        explained = np.einsum("wn,wn->n", between, means[:, block])
        variances[train.cold_items[block]] = np.maximum(prior[block] - explained, 0)
    return factor.cells, means, variances


class _HasInverse(Protocol):
    """Knows the diagonal of the inverse of a covariance."""

    def inverse_diagonal(self, places: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
        """Return its cells at some places ``[c]``."""


class _Across:
    """Covariances of the warm items with others, made tile by tile, or read from kernels that are there already."""

    def __init__(self, covariance: ItemCovariance, train: TrainingSet, matrices: KernelMatrices | None) -> None:
        self.covariance, self.train, self.matrices = covariance, train, matrices
        self.warm = train.warm_items
        known = covariance.weights
        self.diagonal = covariance.variances(train.features.take(self.warm)) + np.float32(known.noise)

    def cells(self, first: int, items: npt.NDArray[np.integer[Any]]) -> Matrix:
        """Return the covariances of the warm items from the place `first` on with some items, float32 ``[r, c]``."""
        rows = self.warm[first:]
        if self.matrices is not None:
            chosen = np.arange(first, len(self.warm))
            return self.covariance.of(self.matrices.take(chosen, items))
        found = np.empty((len(rows), len(items)), np.float32)
        columns = self.train.features.take(items)

        def work(tile: slice) -> None:
            found[tile] = self.covariance.between(self.train.features.take(rows[tile]), columns)

        run_blocks(work, len(rows), _TILE_ROWS, cpu_count())
        return found

    def panel(self, start: int, stop: int) -> Matrix:
        """Return ``(K_ww + σ²I)[start:, start:stop]``."""
        cells = self.cells(start, self.warm[start:stop])
        places = np.arange(stop - start)
        cells[places, places] = self.diagonal[start:stop]
        return cells


def _factorised(across: _Across, warm: FeatureSet) -> PanelCholesky:
    """Return the factor of ``K_ww + σ²I``: in double precision where that costs little, or is needed.

    Single precision is taken for what it is by the error of solutions of random systems, not by a bound. Where it is
    not enough the factorisation is done again in double precision.
    """
    noise = across.covariance.weights.noise
    error = np.inf
    for kind in (np.float32, np.float64) if warm.n_items > DOUBLE_ITEMS else (np.float64,):
        require_memory(
            fit_bytes(warm.n_items, 0, np.dtype(kind).itemsize),
            purpose=f"The factor of the covariance of {warm.n_items:,} items in {np.dtype(kind).name}",
            way_out="Raise min_noise, use fewer items, or the form 'inducing'.",
        )
        made = PanelCholesky.of(across.panel, warm.n_items, kind)
        if made is not None:
            factor, error = made
            if error <= _MAX_ERROR:
                return factor
    found = "is not positive definite" if not np.isfinite(error) else f"leaves an error of {error:.2g}"
    raise SingularMatrixError(
        f"The covariance of {warm.n_items:,} items with noise {noise:.3g} {found} to working precision; its least "
        f"definite part is {across.covariance.least_definite(warm)}. Raise min_noise, or leave that attribute out."
    )


def fit_bytes(n_warm: int, n_cold: int, itemsize: int | None = None) -> int:
    """Return what the factor, the weights of the cold items and their making hold at their peak."""
    size = itemsize or (8 if n_warm <= DOUBLE_ITEMS else 4)
    working = _TEMPORARIES * 4 * n_warm * min(PANEL, n_warm)
    return size * cells_of(n_warm) + 4 * n_warm * n_cold + working


def warm_variance(factor: _HasInverse, noise: float, places: npt.NDArray[np.integer[Any]]) -> Matrix:
    """Return the variance with the noise of some warm items, by their places among these, float32 ``[n]``.

    ``k_w`` is a column of ``K_ww``, so it is ``2σ² − σ⁴ (K_ww + σ²I)⁻¹_jj``.
    """
    return np.asarray(2 * noise - noise**2 * factor.inverse_diagonal(places), np.float32)
