"""Many ridge regressions on the same factors, each with its own weights: one side of an alternating least squares.

Row u of clicks r has ``x_u = argmin Σ_i c_ui (p_ui − xᵀy_i)² + λ‖x‖²`` with the confidence ``c_ui = 1 + α r_ui`` and
``p_ui = 1`` where r_ui > 0, else 0. With the sum over all i taken once, its system is
``(YᵀY + λI + Σ_{i clicked} α r_ui y_i y_iᵀ) x = Σ_{i clicked} c_ui y_i`` (Hu, Koren and Volinsky, *Collaborative
Filtering for Implicit Feedback Datasets*, 2008, Eq. 4). It is solved by Cholesky, or nearly so by some steps of
conjugate gradients (Takács, Pilászy and Tikk, *Applications of the Conjugate Gradient Method for Implicit Feedback
Collaborative Filtering*, 2011).

Notation used for shapes: r rows, n columns, f factors, b rows of a block, l clicks of its longest row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from coldray.errors import SingularMatrixError

Matrix = npt.NDArray[np.float32]
BLOCK_FLOATS = 1 << 20
"""float32 values of the factors of a block's clicks, and of its matrices: 4 MiB, which stay in the cache."""


@dataclass(frozen=True, eq=False)
class RidgeSolutions:
    """Solutions, and what they leave of the objective."""

    rows: Matrix
    """float32 ``[r, f]``; zeros for a row without clicks."""
    objective: float
    """``Σ_u Σ_i c_ui (p_ui − x_uᵀy_i)² + λ Σ_u ‖x_u‖²``; the penalty of Y is not in it."""


class WeightedRidge:
    """Ridge regressions on fixed factors."""

    def __init__(self, factors: Matrix, *, alpha: float, regularization: float) -> None:
        n_factors = factors.shape[1]
        double = factors.astype(np.float64)
        gram = double.T @ double + regularization * np.eye(n_factors)
        self.alpha, self.regularization = alpha, regularization
        self._gram = torch.from_numpy(gram.astype(np.float32))
        # A row of zeros at the end is what padding points at: it adds nothing to any sum.
        self._factors = torch.from_numpy(np.vstack([factors, np.zeros((1, n_factors), np.float32)]))

    def solve(self, clicks: sp.csr_array, *, start: Matrix | None = None, steps: int = 0) -> RidgeSolutions:
        """Solve for each row of `clicks` ``[r, n]``.

        Parameters
        ----------
        start
            Where conjugate gradients begin ``[r, f]``; zeros by default.
        steps
            Steps of conjugate gradients; 0 solves by Cholesky.

        Raises
        ------
        SingularMatrixError
            If a system is not positive definite to working precision.
        """
        solved = np.zeros((clicks.shape[0], self._factors.shape[1]), np.float32)
        objective = 0.0
        for rows, indices, values in self._blocks(clicks):
            known = self._factors.index_select(0, indices.flatten()).view(*indices.shape, -1)  # [b, l, f]
            weights = self.alpha * values  # [b, l]
            confidence = torch.where(values > 0, 1 + weights, 0.0)
            right = torch.bmm(confidence[:, None], known)[:, 0]  # [b, f]
            if steps:
                first = torch.zeros_like(right) if start is None else torch.from_numpy(start[rows])
                solution, residual = self._conjugate_gradients(known, weights, right, first, steps)
            else:
                solution, residual = self._cholesky(known, weights, right), torch.zeros_like(right)
            solved[rows] = solution.numpy()
            # xᵀAx − 2xᵀb + Σc with Ax = b − residual.
            fitted = (solution.double() * (right + residual).double()).sum()
            objective += float(confidence.double().sum() - fitted)
        return RidgeSolutions(solved, objective)

    def _blocks(self, clicks: sp.csr_array) -> Iterator[tuple[npt.NDArray[np.int64], torch.Tensor, torch.Tensor]]:
        """Yield rows of about equal length with their columns and values, padded, ``[b, l]``."""
        n_factors = self._factors.shape[1]
        lengths = np.diff(clicks.indptr)
        order = np.argsort(lengths, kind="stable")
        end = len(order)
        while end > 0 and lengths[order[end - 1]] > 0:
            longest = int(lengths[order[end - 1]])
            size = max(1, BLOCK_FLOATS // (n_factors * max(longest, n_factors)))
            rows = order[max(end - size, 0) : end]
            end -= len(rows)
            places = np.arange(longest)
            inside = places < lengths[rows][:, None]
            cells = np.where(inside, clicks.indptr[rows][:, None] + places, 0)
            indices = np.where(inside, clicks.indices[cells], len(self._factors) - 1)
            values = np.where(inside, clicks.data[cells], 0).astype(np.float32)
            yield rows, torch.from_numpy(indices), torch.from_numpy(values)

    def _cholesky(self, known: torch.Tensor, weights: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        matrices = torch.baddbmm(self._gram, (known * weights[..., None]).transpose(1, 2), known)  # [b, f, f]
        factors, failed = torch.linalg.cholesky_ex(matrices)
        if bool(failed.any()):
            raise SingularMatrixError(
                f"The system of a row with alpha {self.alpha:g} and regularization {self.regularization:g} is not "
                "positive definite to working precision. Raise regularization, or lower alpha."
            )
        solution: torch.Tensor = torch.cholesky_solve(right[..., None], factors)[..., 0]
        return solution

    def _conjugate_gradients(
        self, known: torch.Tensor, weights: torch.Tensor, right: torch.Tensor, start: torch.Tensor, steps: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the solutions after `steps`, and the residuals, both ``[b, f]``."""

        def image(vectors: torch.Tensor) -> torch.Tensor:
            products = torch.bmm(vectors[:, None], known.transpose(1, 2))[:, 0]  # [b, l]
            return vectors @ self._gram + torch.bmm((weights * products)[:, None], known)[:, 0]

        solution, residual = start.clone(), right - image(start)
        direction = residual.clone()
        squared = (residual**2).sum(dim=1, keepdim=True)
        for _ in range(steps):
            moved = image(direction)
            curvature = (direction * moved).sum(dim=1, keepdim=True)
            step = torch.where(curvature > 0, squared / curvature, 0.0)
            solution += step * direction
            residual -= step * moved
            before, squared = squared, (residual**2).sum(dim=1, keepdim=True)
            direction = residual + torch.where(before > 0, squared / before, 0.0) * direction
        return solution, residual
