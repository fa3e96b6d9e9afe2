"""Smoothing over users without an item × item matrix: block conjugate gradients on products with the clicks.

Scores are smoothed by ``D (A + s I)⁻¹ A`` with ``A = D XᵀX D``, ``D = diag((n_i + 5)^−α)`` and s = λ times the mean of
A's diagonal. Of the clicks X, products with X and Xᵀ alone are taken, and each column of the solution has its own step
sizes (Hestenes and Stiefel, *Methods of conjugate gradients for solving linear systems*, 1952).

Notation used for shapes: U users, W warm items, m columns, b of them in a block.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from coldray.core.device import DeviceName, resolve_device
from coldray.core.errors import NumericalError
from coldray.core.memory import require_memory
from coldray.models.base import TrainingSet
from coldray.models.kernel_align.smoothing import damping_of

Matrix = npt.NDArray[np.float32]
_BLOCK_FLOATS = 2**26
"""float32 values held at once beside the clicks and the result (256 MiB)."""


def smooth_by_conjugate_gradients(
    train: TrainingSet,
    *,
    alpha: float,
    ridge: float,
    right: Matrix,
    tolerance: float = 1e-4,
    max_steps: int = 200,
    device: DeviceName = "auto",
    block_floats: int = _BLOCK_FLOATS,
) -> Matrix:
    """Return ``D (A + s I)⁻¹ A right``, float32 ``[W, m]``.

    With R a column of `right`, the error of its column of ``Y = (A + s I)⁻¹ A R`` has at most the norm
    ``tolerance · min(‖R‖, ‖A R‖ / s)``, of which both are at least ‖Y‖.

    Parameters
    ----------
    right
        What the warm items are weighted by, one column an item or a factor ``[W, m]``.
    tolerance
        Largest residual, as above. float32 reaches about 1e-6.
    max_steps
        Steps that a block of columns may take.
    block_floats
        float32 values of the columns that are solved at once; at least one column is.

    Raises
    ------
    NumericalError
        If a column does not converge.
    CatalogTooLargeError
        If a block does not fit in memory.
    """
    operator = _CoClicks(train, alpha, ridge, torch.device(resolve_device(device)))
    n_users, n_warm = operator.shape
    each = n_users + 8 * n_warm  # floats of a column: clicks' products, the five vectors and their temporaries
    width = max(1, min(right.shape[1], block_floats // each))
    require_memory(
        4 * width * each + 4 * right.size,
        purpose=f"Smoothing {right.shape[1]:,} columns over {n_users:,} users and {n_warm:,} items",
        way_out="Use fewer inducing items, or fewer users or items through the filters.",
    )
    smoothed = np.empty(right.shape, np.float32)
    for start in range(0, right.shape[1], width):
        columns = torch.from_numpy(np.array(right[:, start : start + width], np.float32, order="C"))
        solution = _solve(operator, columns.to(operator.device), tolerance, max_steps, ridge)
        smoothed[:, start : start + width] = (operator.damping * solution).cpu().numpy()
    return smoothed


class _CoClicks:
    """Products with ``A / s`` from the clicks, sums over bags of rows: of a user's items, then of an item's users."""

    def __init__(self, train: TrainingSet, alpha: float, ridge: float, device: torch.device) -> None:
        warm = train.warm_items
        clicks = train.clicks[warm].astype(np.float64)
        damping = damping_of(train, alpha)
        shift = ridge * float(np.mean(clicks * damping**2))  # X is 0 or 1, so n_i is the diagonal of XᵀX
        by_user = sp.csr_array(train.interactions[:, warm])
        by_item = sp.csc_array(by_user)
        self.device, self.shape = device, by_user.shape
        self.damping = torch.from_numpy(damping[:, None].astype(np.float32)).to(device)
        self._scale = self.damping / float(np.sqrt(shift))
        self._by_user = tuple(torch.from_numpy(part).to(device) for part in (by_user.indices, by_user.indptr))
        self._by_item = tuple(torch.from_numpy(part).to(device) for part in (by_item.indices, by_item.indptr))

    def __call__(self, columns: torch.Tensor) -> torch.Tensor:
        """Return ``A / s`` times ``[W, b]``."""
        users = _sums(self._by_user, columns * self._scale)  # [U, b]
        return _sums(self._by_item, users) * self._scale


def _sums(bags: tuple[torch.Tensor, ...], rows: torch.Tensor) -> torch.Tensor:
    indices, bounds = bags
    return torch.nn.functional.embedding_bag(indices, rows, bounds, mode="sum", include_last_offset=True)


def _solve(operator: _CoClicks, right: torch.Tensor, tolerance: float, max_steps: int, ridge: float) -> torch.Tensor:
    """Return Y of ``(I + A/s) Y = (A/s) R``, whose eigenvalues are at least 1: no error exceeds its residual."""
    residual = operator(right)
    limit = tolerance * torch.minimum(_norms(right), _norms(residual))
    solution, direction = torch.zeros_like(right), residual.clone()
    squared = _norms(residual) ** 2
    for _ in range(max_steps):
        active = ~(squared.sqrt() <= limit)  # NaN is active
        if not active.any():
            # The recurrence drifts in float32: what it takes for solved is checked, and gone on with from there.
            residual = _residual(operator, right, solution)
            squared = _norms(residual) ** 2
            active = ~(squared.sqrt() <= limit)
            if not active.any():
                return solution
            direction = residual.clone()
        image = direction + operator(direction)
        step = torch.where(active, squared / (direction * image).sum(dim=0), 0.0)
        solution += step * direction
        residual -= step * image
        before, squared = squared, _norms(residual) ** 2
        direction = residual + torch.where(active, squared / before, 0.0) * direction
    left = _norms(_residual(operator, right, solution))
    if bool((left <= limit).all()):
        return solution
    worst = tolerance * float((left / limit).nan_to_num(nan=float("inf")).max())
    raise NumericalError(
        f"Smoothing over users did not converge: the residual is {worst:.3g} after {max_steps} steps, more than the "
        f"tolerance {tolerance:g}. Use a larger ridge than {ridge:g}, or a larger tolerance."
    )


def _residual(operator: _CoClicks, right: torch.Tensor, solution: torch.Tensor) -> torch.Tensor:
    return operator(right - solution) - solution  # the difference is small where A is large, which saves digits


def _norms(columns: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(columns, dim=0)
    return norms
