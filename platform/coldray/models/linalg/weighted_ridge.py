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

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from coldray.core.errors import SingularMatrixError
from coldray.core.one_thread import one_thread
from coldray.models.linalg.sharded import row_shards

Matrix = npt.NDArray[np.float32]
BLOCK_FLOATS = 1 << 20
"""float32 values of the factors of a block's clicks, and of its matrices: 4 MiB, which stay in the cache."""

with warnings.catch_warnings():
    # torch says once, at the first such tensor, that CSR is in beta.
    warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
    torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)


@dataclass(frozen=True, eq=False)
class RidgeSolutions:
    """Solutions, and what they leave of the objective."""

    rows: Matrix
    """float32 ``[r, f]``; zeros for a row without clicks."""
    objective: float
    """``Σ_u Σ_i c_ui (p_ui − x_uᵀy_i)² + λ Σ_u ‖x_u‖²``; the penalty of Y is not in it."""


@dataclass(frozen=True)
class RidgeParameters:
    """What all regressions of an alternating least squares have in common."""

    alpha: float
    """α."""
    regularization: float
    """λ."""
    steps: int = 0
    """Steps of conjugate gradients; 0 solves by Cholesky."""


class WeightedRidge:
    """Ridge regressions on fixed factors.

    Parameters
    ----------
    factors
        Y, float32 ``[n, f]``.
    gram
        ``YᵀY + λI``, float32 ``[f, f]``, where it is known already.
    """

    def __init__(self, factors: Matrix, parameters: RidgeParameters, gram: Matrix | None = None) -> None:
        rows, n_factors = _as_tensor(factors), factors.shape[1]
        self.parameters = parameters
        self._gram = self._gram_of(rows) if gram is None else _as_tensor(gram)
        # A row of zeros at the end is what padding points at: it adds nothing to any sum.
        self._factors = torch.cat([rows, torch.zeros(1, n_factors)])

    def _gram_of(self, rows: torch.Tensor) -> torch.Tensor:
        # By torch as well: the threads of numpy's BLAS wait for work in a loop, and would take the cores from ours.
        with one_thread():
            double = rows.double()
            penalty = self.parameters.regularization * torch.eye(rows.shape[1], dtype=torch.float64)
            return (double.T @ double + penalty).float()

    @property
    def gram(self) -> Matrix:
        """``YᵀY + λI``, float32 ``[f, f]``."""
        found: Matrix = self._gram.numpy()
        return found

    def solve(self, clicks: sp.csr_array, *, start: Matrix | None = None) -> RidgeSolutions:
        """Solve for each row of `clicks` ``[r, n]``; a row's solution depends neither on the others nor on the threads.

        Parameters
        ----------
        start
            Where conjugate gradients begin ``[r, f]``; zeros by default.

        Raises
        ------
        SingularMatrixError
            If a system is not positive definite to working precision.
        """
        if clicks.nnz == 0:
            return RidgeSolutions(np.zeros((clicks.shape[0], self._factors.shape[1]), np.float32), 0.0)
        if not self.parameters.steps:
            return self._by_cholesky(clicks)
        first = np.zeros((clicks.shape[0], self._factors.shape[1]), np.float32) if start is None else start
        shards = row_shards(clicks, torch.get_num_threads())

        def solve(shard: slice) -> RidgeSolutions:
            return self._by_conjugate_gradients(_rows(clicks, shard), first[shard])

        with ThreadPoolExecutor(len(shards)) as pool:
            parts = list(pool.map(solve, shards))
        return RidgeSolutions(np.concatenate([part.rows for part in parts]), sum(part.objective for part in parts))

    def _by_cholesky(self, clicks: sp.csr_array) -> RidgeSolutions:
        solved = np.zeros((clicks.shape[0], self._factors.shape[1]), np.float32)
        objective = 0.0
        for rows, indices, values in self._blocks(clicks):
            known = self._factors.index_select(0, indices.flatten()).view(*indices.shape, -1)  # [b, l, f]
            weights = self.parameters.alpha * values  # [b, l]
            confidence = torch.where(values > 0, 1 + weights, 0.0)
            right = torch.bmm(confidence[:, None], known)[:, 0]  # [b, f]
            solution = self._cholesky(known, weights, right)
            solved[rows] = solution.numpy()
            # xᵀAx − 2xᵀb + Σc with Ax = b.
            objective += float(confidence.double().sum() - (solution.double() * right.double()).sum())
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
                f"The system of a row with alpha {self.parameters.alpha:g} and regularization "
                f"{self.parameters.regularization:g} is not positive definite to working precision. Raise "
                "regularization, or lower alpha."
            )
        solution: torch.Tensor = torch.cholesky_solve(right[..., None], factors)[..., 0]
        return solution

    def _by_conjugate_gradients(self, clicks: sp.csr_array, start: Matrix) -> RidgeSolutions:
        """Take the steps of all rows at once: only the values of the clicks and some ``[r, f]`` are held."""
        with one_thread():
            products = _ClickProducts(clicks, self._factors[:-1])
            values = _as_tensor(clicks.data).float()
            weights = self.parameters.alpha * values
            confidence = torch.where(values > 0, 1 + weights, 0.0)
            right = products.sums(confidence)  # [r, f]

            def image(vectors: torch.Tensor) -> torch.Tensor:
                return torch.addmm(products.sums(products.dots(vectors).mul_(weights)), vectors, self._gram)

            first = torch.tensor(start)
            # A row without clicks has the solution 0, which a few steps only come near.
            first[torch.from_numpy(np.diff(clicks.indptr) == 0)] = 0.0
            solution, residual = _descend(image, first, right, self.parameters.steps)
            # xᵀAx − 2xᵀb + Σc with Ax = b − residual.
            fitted = (solution.double() * (right + residual).double()).sum()
            return RidgeSolutions(solution.numpy(), float(confidence.double().sum() - fitted))


def _rows(clicks: sp.csr_array, shard: slice) -> sp.csr_array:
    """Return rows without a copy of their clicks."""
    starts = clicks.indptr[shard.start : shard.stop + 1]
    cells = slice(starts[0], starts[-1])
    parts = clicks.data[cells], clicks.indices[cells], starts - starts[0]
    return sp.csr_array(parts, shape=(len(starts) - 1, clicks.shape[1]))


class _ClickProducts:
    """Products of factors with the clicks alone."""

    def __init__(self, clicks: sp.csr_array, factors: torch.Tensor) -> None:
        starts, columns = _as_tensor(clicks.indptr), _as_tensor(clicks.indices)
        self._starts, self._columns, self._factors = starts, columns, factors
        # Written anew by each call: a result of its own would take its own copy of the columns too.
        room = torch.zeros(clicks.nnz)
        self._products = torch.sparse_csr_tensor(starts, columns, room, clicks.shape, check_invariants=False)

    def dots(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return ``x_uᵀy_i`` of each click, in the order of the clicks, for rows x ``[r, f]``; the next call's too."""
        found = self._products
        torch.sparse.sampled_addmm(found, vectors, self._factors.T, beta=0.0, out=found)
        values: torch.Tensor = found.values()
        return values

    def sums(self, weights: torch.Tensor) -> torch.Tensor:
        """Return ``Σ_i w_ui y_i`` of each row ``[r, f]`` for a weight of each click."""
        return torch.nn.functional.embedding_bag(
            self._columns,
            self._factors,
            self._starts,
            per_sample_weights=weights,
            mode="sum",
            include_last_offset=True,
        )


def _descend(
    image: Callable[[torch.Tensor], torch.Tensor], solution: torch.Tensor, right: torch.Tensor, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the solutions after `steps` of conjugate gradients from `solution`, and the residuals, both ``[r, f]``."""
    residual = right - image(solution)
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


def _as_tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    """Return `array` as a tensor; a copy where it is read-only, as what comes from Ray's object store is."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())
