"""Smoothing over users: ridge regression from what users clicked to what the items' attributes say.

For weights M between warm items and others, ``D (A + s I)⁻¹ A M`` with ``A = D XᵀX D``, ``D = diag((n_i + 5)^−α)`` and
``s = λ · mean(diag A)``. Since ``(A + s I)⁻¹ A = I − s (A + s I)⁻¹``, it is ``D M − s (XᵀX + s D⁻²)⁻¹ D⁻¹ M``: one
factorisation of a matrix of co-clicks, whatever M is. Where users are fewer than items it is ``D Yᵀ (YYᵀ + s I)⁻¹ Y M``
with ``Y = X D``, the same numbers from a factor of the users' side (Saunders, Gammerman and Vovk, *Ridge regression
learning algorithm in dual variables*, 1998).

Notation used for shapes: U users, W warm items, n columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.device import cpu_count
from coldray.core.errors import SingularMatrixError
from coldray.core.memory import require_memory
from coldray.evaluation.topk import run_blocks
from coldray.models.base import TrainingSet
from coldray.models.linalg.panel_cholesky import PANEL, PanelCholesky, cells_of
from coldray.models.linalg.products import COUNTED_ROWS, SparseProducts, click_products, common_counts

Matrix = npt.NDArray[np.float32]
_DAMPING_CLICKS = 5.0
"""Clicks added to every item's count in D."""
SINGLE_CONDITION = 1e4
"""Bound of the condition number up to which single precision is enough."""


def co_clicks(train: TrainingSet) -> Matrix:
    """Return ``XᵀX`` of the warm items, float32 ``[W, W]``; counts are exact up to 2²⁴."""
    return common_counts(sp.csr_array(train.interactions[:, train.warm_items]))


def damping_of(train: TrainingSet, alpha: float) -> npt.NDArray[np.float64]:
    """Return the diagonal of D ``[W]``."""
    return np.asarray((train.clicks[train.warm_items] + _DAMPING_CLICKS) ** -alpha, np.float64)


def _factorised(
    columns: sp.csr_array, ridge: float, diagonal: npt.NDArray[np.float64], counts: Matrix | None = None
) -> PanelCholesky:
    """Return the factor of ``CᵀC`` for columns C ``[m, n]`` with a diagonal added; `counts` are ``CᵀC`` if known."""
    # No eigenvalue of A exceeds its trace, which is W / λ times s.
    kind = np.float32 if len(diagonal) <= SINGLE_CONDITION * ridge else np.float64
    require_memory(
        np.dtype(kind).itemsize * cells_of(len(diagonal)),
        purpose=f"The factor of the co-clicks of {len(diagonal):,} rows",
        way_out="Use fewer items or users through the filters, or the form 'inducing'.",
    )
    rows = sp.csr_array(columns.T)

    def panel(start: int, stop: int) -> npt.NDArray[Any]:
        products = SparseProducts(sp.csr_array(columns[:, start:stop]))
        cells = np.empty((len(diagonal) - start, stop - start), kind)

        def work(block: slice) -> None:
            some = slice(start + block.start, start + block.stop)
            cells[block] = products.dense(rows[some]) if counts is None else counts[some, start:stop]

        run_blocks(work, len(cells), COUNTED_ROWS, cpu_count())
        places = np.arange(stop - start)
        cells[places, places] += diagonal[start:stop].astype(kind)
        return cells

    made = PanelCholesky.of(panel, len(diagonal), kind)
    if made is None:
        raise SingularMatrixError(
            f"The co-clicks of {len(diagonal):,} rows with ridge {ridge:g} are not positive definite to working "
            "precision. Raise ridge."
        )
    return made[0]


def users_are_fewer(train: TrainingSet) -> bool:
    """Return whether there are fewer users with clicks than warm items."""
    return int(np.count_nonzero(np.diff(train.interactions.indptr))) < len(train.warm_items)


@dataclass(frozen=True, eq=False)
class UserSmoother:
    """The factorisation, and what it is applied with."""

    factor: PanelCholesky
    """Factor of ``XᵀX + s D⁻²`` ``[W, W]``, or of ``YYᵀ + s I`` ``[U, U]`` if there are clicks."""
    damping: Matrix
    """Diagonal of D ``[W]``."""
    shift: float
    """s."""
    clicks: sp.csr_array | None = None
    """X ``[U, W]``, where users are fewer than items."""

    @classmethod
    def of(cls, train: TrainingSet, alpha: float, ridge: float, counts: Matrix | None = None) -> Self:
        """Factorise the co-clicks of the warm items, or of users where these are fewer.

        Parameters
        ----------
        alpha, ridge
            α and λ.
        counts
            Those of :func:`co_clicks`, if they are there already; only asked for where items are not more.

        Raises
        ------
        SingularMatrixError
            If the matrix is not positive definite to working precision.
        CatalogTooLargeError
            If the factor does not fit in memory.
        """
        clicks = sp.csr_array(train.interactions[:, train.warm_items], dtype=np.float32)
        damping = damping_of(train, alpha)
        squares = np.asarray(clicks.multiply(clicks).sum(axis=0), np.float64).ravel()
        shift = ridge * float(np.mean(squares * damping**2))
        single = damping.astype(np.float32)
        if users_are_fewer(train):
            clicks = sp.csr_array(clicks[np.flatnonzero(np.diff(clicks.indptr))])
            damped = sp.csr_array(sp.csr_array(clicks @ sp.diags_array(single)).T)
            return cls(_factorised(damped, ridge, np.full(clicks.shape[0], shift)), single, shift, clicks)
        return cls(_factorised(clicks, ridge, shift / damping**2, counts), single, shift)

    def weights(self, means: Matrix) -> Matrix:
        """Return ``D (A + s I)⁻¹ A M`` for M, both float32 ``[W, n]``."""
        smoothed = np.empty(means.shape, np.float32)
        for start in range(0, means.shape[1], PANEL):
            block = slice(start, start + PANEL)
            smoothed[:, block] = self._weights(means[:, block])
        return smoothed

    def _weights(self, means: Matrix) -> Matrix:
        damping: npt.NDArray[Any] = self.damping[:, None]
        if self.clicks is None:
            return np.asarray(damping * means - self.shift * self.factor.solve(means / damping), np.float32)
        return np.asarray(damping**2 * self._through_users(self.clicks, damping * means), np.float32)

    def rows(self, histories: Matrix) -> Matrix:
        """Return ``x D (A + s I)⁻¹ A`` for rows x, both float32 ``[b, W]``."""
        columns: npt.NDArray[Any] = histories.T
        damping: npt.NDArray[Any] = self.damping[:, None]
        if self.clicks is None:
            smoothed: npt.NDArray[Any] = damping * columns - self.shift * self.factor.solve(columns) / damping
        else:
            smoothed = damping * self._through_users(self.clicks, damping**2 * columns)
        return np.asarray(smoothed.T, np.float32)

    def _through_users(self, clicks: sp.csr_array, columns: Matrix) -> Matrix:
        """Return ``Xᵀ (YYᵀ + s I)⁻¹ X`` times ``[W, n]``."""
        users = np.asarray(self.factor.solve(click_products(clicks, columns)), np.float32)
        return click_products(sp.csr_array(clicks.T), users)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that :meth:`from_state` needs."""
        held = {"panels": self.factor.cells, "damping": self.damping, "shift": np.array([self.shift])}
        if self.clicks is None:
            return held
        rows = {name: getattr(self.clicks, name) for name in ("data", "indices", "indptr")}
        return held | {f"clicks.{name}": array for name, array in rows.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild the smoother, those of earlier versions too."""
        damping, shift = state["damping"], float(state["shift"][0])
        if "factor" in state:
            return cls(PanelCholesky.of_dense(state["factor"]), damping, shift)
        if "clicks.indptr" not in state:
            return cls(PanelCholesky(state["panels"], len(damping)), damping, shift)
        parts = tuple(state[f"clicks.{name}"] for name in ("data", "indices", "indptr"))
        clicks = sp.csr_array(parts, shape=(len(parts[2]) - 1, len(damping)))
        return cls(PanelCholesky(state["panels"], clicks.shape[0]), damping, shift, clicks)
