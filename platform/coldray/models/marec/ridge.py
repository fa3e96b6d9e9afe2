"""The ridge systems of MARec's closed form: ``S + λ₁I`` from a spectrum that other λ₁ share, or from a Cholesky factor.

``S = XᵀX + λ₀FFᵀ = YᵀY`` with the rows of ``Y`` those of X and, below them, those of ``√λ₀ Fᵀ``. Where Y has fewer rows
than columns (few users, few labels), ``(YᵀY + λ₁I)⁻¹Yᵀ = Yᵀ(YYᵀ + λ₁I)⁻¹`` leaves the smaller matrix to be factorised.

Notation used for shapes: n items of the system, m rows of Y, c columns asked for, r rank.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp

from coldray.core.device import DeviceName, Matrix, matmul, resolve_device
from coldray.core.errors import SingularMatrixError
from coldray.models.base import TrainingSet
from coldray.models.kernel_align.smoothing import SINGLE_CONDITION
from coldray.models.linalg.panel_cholesky import inverse_of_factor
from coldray.models.linalg.products import click_products, common_counts
from coldray.models.marec.alignment import Alignment, GramSpectrum, require_closed_form_memory, stacked_features

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

FACTOR_BYTES = 12
"""Bytes that a factor takes at its peak for each pair of items: itself in float64, and the counts it is made of."""
CHOLESKY_BYTES = 30
"""Bytes that a fit by a factor holds at its peak for each pair of items, inverse and weights of all included."""
COUPLED_BYTES = 36
"""The same with λ₀ > 0, with the blocks of cold items beside."""
_PRODUCT_ROWS = 512
"""Rows of a product of sparse matrices that are made dense at once."""


class RidgeSystem(Protocol):
    """``S + λ₁I`` for one λ₁, ready to be solved."""

    def solve_gram(self, right: Matrix) -> Matrix:
        """Return ``(S + λ₁I)⁻¹ S B`` for ``B [n, c]``."""

    def inverse(self) -> Matrix:
        """Return ``(S + λ₁I)⁻¹ [n, n]``."""


class SpectralRidge:
    """The system from a spectrum that other λ₁ share."""

    def __init__(self, spectrum: GramSpectrum, lambda_1: float, device: DeviceName = "auto") -> None:
        self.spectrum, self.lambda_1, self.device = spectrum, lambda_1, resolve_device(device)

    def solve_gram(self, right: Matrix) -> Matrix:
        """Apply the spectral filter ``e / (e + λ₁)``."""
        values, vectors = self.spectrum.values, self.spectrum.vectors
        filtered = (values / (values + self.lambda_1)).astype(np.float32)[:, None]
        return matmul(vectors, filtered * matmul(vectors.T, right, self.device), self.device)

    def inverse(self) -> Matrix:
        """Sum the eigenvectors over ``1 / (e + λ₁)``, and the eigenvalue-0 rest over ``1 / λ₁``."""
        values, vectors = self.spectrum.values, self.spectrum.vectors
        complete = len(values) == len(vectors)
        gains = 1 / (values + self.lambda_1) - (0 if complete else 1 / self.lambda_1)
        inverse = matmul(vectors * gains.astype(np.float32), vectors.T, self.device)
        if not complete:
            inverse[np.diag_indices_from(inverse)] += np.float32(1 / self.lambda_1)
        return inverse


class CholeskyRidge:
    """The system of one λ₁ from a Cholesky factor, made when it is first needed.

    Its items are the warm ones where they alone have to be solved for
    (:attr:`~coldray.models.marec.alignment.Alignment.cold_alone`), else all. The factor is in single precision where
    the matrix is conditioned well enough, and that of ``YYᵀ`` where Y has fewer rows than columns.

    Raises
    ------
    CatalogTooLargeError
        If the factor does not fit in memory.
    SingularMatrixError
        When it is solved for, if the matrix is not positive definite to working precision.
    """

    def __init__(self, train: TrainingSet, *, lambda_0: float, lambda_1: float) -> None:
        cold_alone = Alignment.of(train, lambda_0=lambda_0).cold_alone
        every = np.arange(train.interactions.shape[1], dtype=np.int32)
        self.items = train.warm_items if cold_alone else every
        self.lambda_0, self.lambda_1 = lambda_0, lambda_1
        self.clicks = sp.csr_array(train.interactions[:, self.items], dtype=np.float32)
        self.attributes = stacked_features(train.features) if lambda_0 > 0 else None
        self.root = _root(self.clicks, self.attributes, self.items, lambda_0)
        self.by_rows = self.root.shape[0] < self.root.shape[1]
        require_closed_form_memory(FACTOR_BYTES * min(self.root.shape) ** 2, len(self.items))

    def solve_rows(self, right: Any) -> Floats:
        """Return ``(S + λ₁I)⁻¹ Yᵀ R [n, c]`` for R ``[m, c]``, dense or sparse: float64 if the factor is."""
        kind = self._kind
        if self.by_rows:
            rows: Floats = np.array(right.toarray() if sp.issparse(right) else right, kind, order="F")
            return _sparse_times(sp.csr_array(self.root.T), self._solved(rows))
        product = (self.root.T @ right).toarray() if sp.issparse(right) else _sparse_times(self.root.T, right)
        columns: Floats = np.array(product, kind, order="F")
        return self._solved(columns)

    def solve_gram(self, right: Matrix) -> Matrix:
        """Return ``(S + λ₁I)⁻¹ YᵀY B``."""
        return np.asarray(self.solve_rows(_sparse_times(self.root, right)), np.float32)

    def inverse(self) -> Matrix:
        """Invert in float64, in the place of a factor over the items: one that is kept is made again when needed.

        Off its diagonal the inverse is smaller than on it by a factor of λ₁ and more, which single precision would
        lose.
        """
        if self.by_rows or self._kind is np.float32:
            factor = self._factorised(self.root, np.float64)
        else:
            factor = self.__dict__.pop("_factor", None)
            factor = self._factorised(self.root, np.float64) if factor is None else factor
        lower = inverse_of_factor(factor)  # zero above the diagonal, as before
        del factor
        inverse: Matrix = lower.astype(np.float32)
        del lower
        inverse[np.diag_indices_from(inverse)] *= 0.5
        inverse += inverse.T
        return inverse

    @cached_property
    def _factor(self) -> Floats:
        return self._factorised(sp.csr_array(self.root.T) if self.by_rows else self.root, self._kind)

    @cached_property
    def _kind(self) -> type[np.float32] | type[np.float64]:
        """Single precision where no eigenvalue can be too far above λ₁: none exceeds the largest row sum of counts."""
        if self.lambda_0 > 0:
            return np.float64
        largest = (self.clicks.T @ self.clicks.sum(axis=1)).max()
        return np.float32 if largest <= SINGLE_CONDITION * self.lambda_1 else np.float64

    def _factorised(self, root: sp.csr_array, kind: type[np.float32] | type[np.float64]) -> Floats:
        """Return the lower Cholesky factor of ``rootᵀ root + λ₁I``."""
        gram = common_counts(root) if self.lambda_0 == 0 else _gram(root)
        matrix: Any = gram.T.astype(kind, order="F", copy=False)  # symmetric; LAPACK reads by columns
        del gram
        matrix[np.diag_indices_from(matrix)] += kind(self.lambda_1)
        potrf = scipy.linalg.lapack.get_lapack_funcs("potrf", dtype=kind)
        factor, failed = potrf(matrix, lower=True, overwrite_a=True, clean=True)
        if failed:
            raise SingularMatrixError(
                f"XᵀX + λ₁I over {len(self.items):,} items is singular to working precision with "
                f"lambda_1={self.lambda_1:g}. Use a larger lambda_1."
            )
        return np.asarray(factor)

    def _solved(self, right: Floats) -> Floats:
        solved = scipy.linalg.cho_solve((self._factor, True), right, overwrite_b=True, check_finite=False)
        return np.asarray(solved)


def _root(
    clicks: sp.csr_array, attributes: sp.csr_array | None, items: npt.NDArray[np.int32], lambda_0: float
) -> sp.csr_array:
    """Return Y ``[m, n]``: float32 counts, or float64 with attributes below them."""
    if attributes is None:
        return clicks
    below = np.sqrt(lambda_0) * attributes[items].T.astype(np.float64)
    return sp.csr_array(sp.vstack([clicks.astype(np.float64), below], format="csr"))


def _gram(root: sp.csr_array) -> npt.NDArray[np.float64]:
    """Return ``rootᵀ root``, blocks of rows one after the other."""
    columns, size = sp.csr_array(root.T), root.shape[1]
    gram = np.empty((size, size))
    for start in range(0, size, _PRODUCT_ROWS):
        gram[start : start + _PRODUCT_ROWS] = (columns[start : start + _PRODUCT_ROWS] @ root).toarray()
    return gram


def _sparse_times(rows: Any, dense: Floats) -> Floats:
    """Return the product of a sparse matrix and a dense one, in single precision where both are."""
    if rows.dtype == dense.dtype == np.float32:
        return click_products(sp.csr_array(rows), np.ascontiguousarray(dense))
    return np.asarray(rows @ dense)
