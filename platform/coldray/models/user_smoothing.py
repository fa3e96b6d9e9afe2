"""Smoothing over users: ridge regression from what users clicked to what the items' attributes say.

For weights M between warm items and others, ``D (A + s I)⁻¹ A M`` with ``A = D XᵀX D``, ``D = diag((n_i + 5)^−α)`` and
``s = λ · mean(diag A)``. Since ``(A + s I)⁻¹ A = I − s (A + s I)⁻¹``, it is ``D M − s (XᵀX + s D⁻²)⁻¹ D⁻¹ M``: one
factorisation of a matrix of co-clicks, whatever M is.

Notation used for shapes: U users, W warm items, n columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp

from coldray.errors import SingularMatrixError
from coldray.models.base import TrainingSet
from coldray.models.sparse_products import common_counts

Matrix = npt.NDArray[np.float32]
DAMPING_CLICKS = 5.0
"""Clicks added to every item's count in D."""
SINGLE_CONDITION = 1e4
"""Bound of the condition number up to which single precision is enough."""


def co_clicks(train: TrainingSet) -> Matrix:
    """Return ``XᵀX`` of the warm items, float32 ``[W, W]``; counts are exact up to 2²⁴."""
    return common_counts(sp.csr_array(train.interactions[:, train.warm_items]))


def damping_of(train: TrainingSet, alpha: float) -> npt.NDArray[np.float64]:
    """Return the diagonal of D ``[W]``."""
    return np.asarray((train.clicks[train.warm_items] + DAMPING_CLICKS) ** -alpha, np.float64)


@dataclass(frozen=True, eq=False)
class UserSmoother:
    """The factorisation, and what it is applied with."""

    factor: npt.NDArray[np.floating[Any]]
    """Lower Cholesky factor of ``XᵀX + s D⁻²`` ``[W, W]``; float64 where single precision is not enough."""
    damping: Matrix
    """Diagonal of D ``[W]``."""
    shift: float
    """s."""

    @classmethod
    def of(cls, counts: Matrix, damping: npt.NDArray[np.float64], ridge: float) -> Self:
        """Factorise the co-clicks of the warm items.

        Parameters
        ----------
        counts
            ``XᵀX`` ``[W, W]``.
        damping
            Diagonal of D ``[W]``.
        ridge
            λ.

        Raises
        ------
        SingularMatrixError
            If the matrix is not positive definite to working precision.
        """
        shift = ridge * float(np.mean(np.diag(counts) * damping**2))
        # No eigenvalue of A exceeds its trace, which is W / λ times s.
        kind = np.float32 if len(counts) <= SINGLE_CONDITION * ridge else np.float64
        matrix: Any = np.array(counts, kind, order="F")
        matrix[np.diag_indices_from(matrix)] += (shift / damping**2).astype(kind)
        potrf = scipy.linalg.lapack.spotrf if kind is np.float32 else scipy.linalg.lapack.dpotrf
        factor, failed = potrf(matrix, lower=True, overwrite_a=True, clean=True)
        if failed:
            raise SingularMatrixError(
                f"The co-clicks of {len(matrix):,} items with ridge {ridge:g} are not positive definite to working "
                "precision. Raise ridge."
            )
        return cls(factor, damping.astype(np.float32), shift)

    def weights(self, means: Matrix) -> Matrix:
        """Return ``D (A + s I)⁻¹ A M`` for M, both float32 ``[W, n]``."""
        right = np.divide(means, self.damping[:, None], order="F")  # as LAPACK wants it, without a copy
        solved = scipy.linalg.cho_solve((self.factor, True), right, overwrite_b=True, check_finite=False)
        return np.asarray(self.damping[:, None] * means - self.shift * solved, np.float32)

    def rows(self, histories: Matrix) -> Matrix:
        """Return ``x D (A + s I)⁻¹ A`` for rows x, both float32 ``[b, W]``."""
        solved = scipy.linalg.cho_solve((self.factor, True), histories.T, check_finite=False).T
        return np.asarray(histories * self.damping - self.shift * solved / self.damping, np.float32)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that :meth:`from_state` needs."""
        return {"factor": self.factor, "damping": self.damping, "shift": np.array([self.shift])}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild the smoother."""
        return cls(state["factor"], state["damping"], float(state["shift"][0]))
