"""The closed form's smoothing over users without an item × item matrix: conjugate gradients on products with clicks.

``(C + λ₁I)⁻¹ C g = g − λ₁ (C + λ₁I)⁻¹ g`` with ``C = XᵀX``. Products with X and Xᵀ are taken alone, in double
precision: with a small λ₁ the matrix is conditioned too badly for single. The diagonal, clicks of an item and λ₁,
preconditions the system (Jacobi), and each column has its own step sizes.

No eigenvalue of ``C + λ₁I`` is below λ₁: the error of a column is at most the residual of its system. The limit is a
share of ``min(‖g‖, ‖Cg‖ / λ₁)``, of which both are at least the norm of the column.

Notation used for shapes: U users, W warm items, n columns, b of them in a block.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import NumericalError
from coldray.models.linalg.products import Matrix

Double = npt.NDArray[np.float64]
TOLERANCE = 1e-5
"""Largest norm of a column's error, relative to ``min(‖g‖, ‖Cg‖ / λ₁)``."""
MAX_STEPS = 2000
"""Steps that a block of columns may take."""
BLOCK_FLOATS = 2**26
"""float64 values that are held at once beside the clicks and the columns (512 MiB)."""
VECTORS = 7
"""Vectors over the items that a column takes while it is solved."""


def smoothed_by_clicks(
    clicks: sp.csr_array,
    right: Matrix,
    *,
    lambda_1: float,
    tolerance: float = TOLERANCE,
    max_steps: int = MAX_STEPS,
    block_floats: int = BLOCK_FLOATS,
) -> Matrix:
    """Return ``(XᵀX + λ₁I)⁻¹ XᵀX g``, float32 ``[W, n]``.

    Parameters
    ----------
    clicks
        X ``[U, W]``; each item has at least one click.
    right
        g ``[W, n]``.
    tolerance
        As :data:`TOLERANCE`.
    block_floats
        As :data:`BLOCK_FLOATS`; at least one column is solved at once.

    Raises
    ------
    NumericalError
        If a column does not converge.
    """
    by_user = sp.csr_array(clicks, dtype=np.float64)
    system = _System(by_user, sp.csr_array(by_user.T), lambda_1)
    width = max(1, block_floats // column_floats(*clicks.shape))
    smoothed = np.empty(right.shape, np.float32)
    for start in range(0, right.shape[1], width):
        columns = right[:, start : start + width].astype(np.float64)
        solved = _solve(system, columns, tolerance, max_steps)
        smoothed[:, start : start + width] = columns - lambda_1 * solved
    return smoothed


def column_floats(n_users: int, n_items: int) -> int:
    """Return the float64 values that a column takes while it is solved."""
    return n_users + VECTORS * n_items


class _System:
    """``C + λ₁I`` and the inverse of its diagonal."""

    def __init__(self, by_user: sp.csr_array, by_item: sp.csr_array, lambda_1: float) -> None:
        self._by_user, self._by_item, self.lambda_1 = by_user, by_item, lambda_1
        self.preconditioner = 1 / (np.diff(by_item.indptr) + lambda_1)[:, None]  # X is 0 or 1

    def __call__(self, columns: Double) -> Double:
        """Return the product with ``[W, b]``."""
        product = self.gram(columns)
        product += self.lambda_1 * columns
        return product

    def gram(self, columns: Double) -> Double:
        """Return the product of C with ``[W, b]``."""
        product: Double = self._by_item @ (self._by_user @ columns)
        return product


def _solve(system: _System, right: Double, tolerance: float, max_steps: int) -> Double:
    """Return z of ``(C + λ₁I) z = g`` for the columns g ``[W, b]``, none of whose residuals exceeds its limit."""
    norms = (np.linalg.norm(columns, axis=0) for columns in (right, system.gram(right) / system.lambda_1))
    limit = tolerance * np.minimum(*norms)
    solution, residual = np.zeros_like(right), right.copy()
    direction = system.preconditioner * residual
    squared = np.einsum("wb,wb->b", residual, direction)
    for _ in range(max_steps):
        active = ~(np.linalg.norm(residual, axis=0) <= limit)  # NaN is active
        if not active.any():
            # The recurrence drifts: what it takes for solved is checked, and gone on with from there.
            residual = right - system(solution)
            active = ~(np.linalg.norm(residual, axis=0) <= limit)
            if not active.any():
                return solution
            direction = system.preconditioner * residual
            squared = np.einsum("wb,wb->b", residual, direction)
        image = system(direction)
        step = _ratios(squared, np.einsum("wb,wb->b", direction, image), active)
        solution += step * direction
        residual -= step * image
        scaled = system.preconditioner * residual
        before, squared = squared, np.einsum("wb,wb->b", residual, scaled)
        direction = scaled + _ratios(squared, before, active) * direction
    left = np.linalg.norm(right - system(solution), axis=0)
    if (left <= limit).all():
        return solution
    with np.errstate(invalid="ignore", divide="ignore"):
        worst = tolerance * float(np.nan_to_num(left / limit, nan=np.inf).max())
    raise NumericalError(
        f"Smoothing over users did not converge: the residual is {worst:.3g} after {max_steps} steps, more than the "
        f"tolerance {tolerance:g}. Use a larger lambda_1 than {system.lambda_1:g}."
    )


def _ratios(above: Double, below: Double, active: npt.NDArray[np.bool_]) -> Double:
    return np.divide(above, below, out=np.zeros_like(above), where=active)
