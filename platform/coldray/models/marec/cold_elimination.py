"""Eq. 9 of MARec where λ₀ > 0 couples cold items with warm ones, from a factor over the warm items alone.

The aligned items J are the cold ones, which have no clicks. In blocks of warm and cold items the inverse is that of

    ``[[A, B + E], [Bᵀ, D]]`` with ``A = C_w + λ₀F_wF_wᵀ + λ₁I``, ``B = λ₀F_wF_cᵀ``, ``E = αβ C_w g`` and
    ``D = λ₀F_cF_cᵀ + λ₁I``,

so ``P_cc = (D − BᵀA⁻¹(B + E))⁻¹`` and ``P_wc = −A⁻¹(B + E) P_cc``: a solve over W items for 2|J| columns in place of an
inverse over all items. All is float64, as D and ``BᵀA⁻¹B`` nearly cancel where cold items resemble warm ones.

Notation used for shapes: I items, W warm ones, J cold ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from coldray.core.device import Matrix
from coldray.core.errors import SingularMatrixError
from coldray.models.base import Items
from coldray.models.marec.alignment import Double, require_before_pole, require_closed_form_memory
from coldray.models.marec.ridge import FACTOR_BYTES, CholeskyRidge

_INVERSE_ROWS = 512
"""Rows of the block of warm items that are corrected at once."""


@dataclass(frozen=True, eq=False)
class ColdElimination:
    """The blocks of P that cold columns are made of."""

    coupling: Double
    """``A⁻¹B [W, J]``."""
    joint: Double
    """``A⁻¹(B + E) [W, J]``."""
    cold: Double
    """``P_cc [J, J]``."""

    @classmethod
    def of(cls, ridge: CholeskyRidge, cold_items: Items, similarity: Matrix, scale: float) -> Self:
        """Solve for the cold items.

        Parameters
        ----------
        ridge
            The system over the warm items, with λ₀ > 0.
        similarity
            g ``[W, J]``.
        scale
            αβ.

        Raises
        ------
        CatalogTooLargeError
            If the blocks do not fit in memory.
        NumericalError
            If αβ lies beyond the pole.
        SingularMatrixError
            If the system over the cold items has no inverse.
        """
        n_warm, n_cold = similarity.shape
        require_closed_form_memory(_elimination_bytes(n_warm, n_cold), n_warm + n_cold)
        if ridge.attributes is None:
            raise ValueError("λ₀ is 0: nothing couples cold items with warm ones.")
        root = np.sqrt(ridge.lambda_0)
        cold = root * ridge.attributes[cold_items].astype(np.float64)  # √λ₀ F_c [J, d]
        clicks = sp.csr_array(ridge.clicks, dtype=np.float64)
        nothing = sp.csr_array((clicks.shape[0], n_cold))
        coupling = np.asarray(ridge.solve_rows(sp.csr_array(sp.vstack([nothing, cold.T], format="csr"))), np.float64)
        aligned = np.zeros((ridge.root.shape[0], n_cold))
        aligned[: clicks.shape[0]] = scale * (clicks @ similarity.astype(np.float64))
        joint = np.asarray(ridge.solve_rows(aligned), np.float64)
        del aligned
        warm = sp.csr_array(ridge.root[clicks.shape[0] :])  # √λ₀ F_wᵀ [d, W]
        schur = (cold @ cold.T).toarray() - cold @ (warm @ coupling)
        schur[np.diag_indices_from(schur)] += ridge.lambda_1
        alignment = -(cold @ (warm @ joint))
        try:
            require_before_pole(np.linalg.solve(schur, alignment), scale)
            found = np.linalg.inv(schur + alignment)
        except np.linalg.LinAlgError as error:
            raise SingularMatrixError(
                f"The aligned system is singular with alpha·beta={scale:g}: {error}. Use another alpha, beta or "
                "lambda_1."
            ) from error
        joint += coupling
        return cls(coupling, joint, found)

    def columns(self, warm_items: Items, cold_items: Items, at: Items) -> Matrix:
        """Return the columns of Θ of the cold items at the places `at`, float32 ``[I, n]``."""
        weights = np.zeros((len(warm_items) + len(cold_items), len(at)), np.float32)
        chosen = self.cold[:, at] / np.diag(self.cold)[at]
        weights[warm_items] = self.joint @ chosen
        weights[cold_items] = -chosen
        weights[cold_items[at], np.arange(len(at))] = 0.0
        return weights

    def inverse(self, warm_inverse: Matrix, warm_items: Items, cold_items: Items) -> Double:
        """Return P over all items ``[I, I]`` from ``A⁻¹ [W, W]``."""
        size = len(warm_items) + len(cold_items)
        inverse = np.empty((size, size))
        back = scipy.linalg.blas.dgemm(-1.0, self.cold, self.coupling, trans_b=True)  # P_cw [J, W]
        for start in range(0, len(warm_items), _INVERSE_ROWS):
            rows = slice(start, start + _INVERSE_ROWS)
            inverse[np.ix_(warm_items[rows], warm_items)] = warm_inverse[rows] - self.joint[rows] @ back
        inverse[np.ix_(cold_items, warm_items)] = back
        inverse[np.ix_(warm_items, cold_items)] = -self.joint @ self.cold
        inverse[np.ix_(cold_items, cold_items)] = self.cold
        return inverse


def _elimination_bytes(n_warm: int, n_cold: int) -> int:
    """Return what the factor and the blocks take at their peak."""
    return FACTOR_BYTES * n_warm**2 + 36 * n_warm * n_cold + 40 * n_cold**2
