"""Cholesky factors held as panels of columns: half the memory of a square matrix, and no call of LAPACK beyond a panel.

A LAPACK inverse from a factor (dpotri) of 16,980 rows in double precision was seen to end its process. Why is not
known; so nothing is asked of LAPACK here beyond a panel. A factorisation is products of panels, at the speed of
those (a left-looking block algorithm; Golub and Van Loan, *Matrix Computations*, 2013, Section 4.2.6), and the
matrix is asked for panel by panel, so that it is never held beside its factor. Where an inverse would only be
multiplied by, its product is solved for; who needs all cells of one takes :func:`inverse_of_factor`.

Notation used for shapes: n rows, b columns of a panel, c columns of a right-hand side.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.linalg

if TYPE_CHECKING:
    import torch

Real: TypeAlias = npt.NDArray[np.floating[Any]]
MakePanel: TypeAlias = Callable[[int, int], Real]
PANEL = 1024
"""Columns of a panel. Bundles hold panels of so many: with another number they could not be read."""
_LAPACK_ROWS = 12_288
"""Rows of a matrix that LAPACK inverts from its factor; a larger one takes panels, which are slower. This many have
1.2 GB in double precision; those 16,980 at which a process was seen to end had more than 2³¹ bytes."""
_PROBES = 4
"""Random vectors by which the error of a factor is measured."""


def cells_of(size: int) -> int:
    """Return how many numbers a factor of that size holds."""
    return sum((size - start) * (min(start + PANEL, size) - start) for start in range(0, size, PANEL))


@dataclass(frozen=True, eq=False)
class PanelCholesky:
    """The lower Cholesky factor L of a symmetric matrix M, and what solves with it."""

    cells: Real
    """The panels one after the other, each ``[n − start, b]`` from its own diagonal on, row by row."""
    size: int
    """n."""

    @classmethod
    def of(cls, panel: MakePanel, size: int, kind: type[np.float32] | type[np.float64]) -> tuple[Self, float] | None:
        """Factorise a matrix.

        Parameters
        ----------
        panel
            Returns ``M[start:, start:stop]``, ``[n − start, b]``, which is overwritten.
        kind
            Type of the factor's numbers.

        Returns
        -------
        tuple or None
            The factor, and the relative error of solutions of random systems, measured: ``‖M⁻¹(M z) − z‖ / ‖z‖``. None
            if M is not positive definite to working precision.
        """
        import torch

        factor = cls(np.empty(cells_of(size), kind), size)
        panels = factor._panels()
        probes = torch.from_numpy(np.random.default_rng(0).standard_normal((size, _PROBES)))
        images = torch.zeros_like(probes)
        for p, (start, stop, current) in enumerate(panels):
            current.copy_(torch.from_numpy(panel(start, stop)))
            _add_image(images, current, probes, start, stop)
            for before, _, rows in panels[:p]:
                left = rows[start - before :]
                current.addmm_(left, left[: stop - start].T, alpha=-1)
            own, below = current[: stop - start], current[stop - start :]
            block, failed = torch.linalg.cholesky_ex(own.double())
            if int(failed):
                return None
            own.copy_(block)
            below.copy_(torch.linalg.solve_triangular(own.T, below, upper=True, left=False))
        found = torch.from_numpy(factor.solve(images.numpy())).double()
        error = float(torch.linalg.vector_norm(found - probes) / torch.linalg.vector_norm(probes))
        return factor, error

    @classmethod
    def of_dense(cls, lower: Real) -> Self:
        """Return a factor held as a square matrix with zeros above its diagonal ``[n, n]`` in panels."""
        factor = cls(np.empty(cells_of(len(lower)), lower.dtype), len(lower))
        for start, stop, panel in factor._panels():
            panel.numpy()[:] = lower[start:, start:stop]
        return factor

    def solve(self, right: npt.NDArray[Any]) -> Real:
        """Return ``M⁻¹ R``, ``[n, c]`` in the type of the factor."""
        import torch

        solution = np.asarray(right).astype(self.cells.dtype, order="C", copy=True)
        columns, panels = torch.from_numpy(solution), self._panels()
        _forward(panels, columns)
        _backward(panels, columns)
        return solution

    def inverse(self, into: Real) -> None:
        """Write ``M⁻¹`` on and below the diagonal of a matrix ``[n, n]``: ``2n³/3`` operations, as LAPACK takes."""
        import torch

        panels = self._panels()
        for p, (start, stop, _) in enumerate(panels):
            # Of unit vectors, L⁻¹ is zero above their rows, and M⁻¹ is not asked for there.
            own = [(first - start, last - start, cells) for first, last, cells in panels[p:]]
            columns = np.zeros((self.size - start, stop - start), self.cells.dtype)
            np.fill_diagonal(columns, 1)
            solved = torch.from_numpy(columns)
            _forward(own, solved)
            _backward(own, solved)
            corner = into[start:stop, start:stop]
            corner[np.tril_indices_from(corner)] = columns[: stop - start][np.tril_indices_from(corner)]
            into[stop:, start:stop] = columns[stop - start :]

    def inverse_diagonal(self, places: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
        """Return the cells of ``M⁻¹``'s diagonal at some places, float64 ``[c]``: n² operations each, or fewer."""
        import torch

        found = np.empty(len(places))
        order = np.argsort(places, kind="stable")
        for begin in range(0, len(places), PANEL):
            block = order[begin : begin + PANEL]
            first = int(places[block[0]]) // PANEL  # of a unit vector, L⁻¹ is zero above it
            panels = self._panels()[first:]
            columns = np.zeros((self.size - first * PANEL, len(block)), self.cells.dtype)
            columns[places[block] - first * PANEL, np.arange(len(block))] = 1
            solved = torch.from_numpy(columns)
            _forward([(s - first * PANEL, e - first * PANEL, cells) for s, e, cells in panels], solved)
            found[block] = (solved**2).sum(dim=0, dtype=torch.float64).numpy()
        return found

    def _panels(self) -> list[tuple[int, int, torch.Tensor]]:
        """Return the first row, the row after the last and the cells ``[n − start, b]`` of each panel."""
        import torch

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nor is it written to
            cells = torch.from_numpy(self.cells)
        panels, offset = [], 0
        for start in range(0, self.size, PANEL):
            stop = min(start + PANEL, self.size)
            count = (self.size - start) * (stop - start)
            panels.append((start, stop, cells[offset : offset + count].view(self.size - start, stop - start)))
            offset += count
        return panels


def _forward(panels: list[tuple[int, int, torch.Tensor]], columns: torch.Tensor) -> None:
    """Replace the columns ``[n, c]`` by ``L⁻¹`` times them."""
    import torch

    for start, stop, panel in panels:
        own, below = panel[: stop - start], panel[stop - start :]
        rows = columns[start:stop]
        rows.copy_(torch.linalg.solve_triangular(own, rows, upper=False))
        columns[stop:].addmm_(below, rows, alpha=-1)


def _backward(panels: list[tuple[int, int, torch.Tensor]], columns: torch.Tensor) -> None:
    """Replace the columns ``[n, c]`` by ``L⁻ᵀ`` times them."""
    import torch

    for start, stop, panel in reversed(panels):
        own, below = panel[: stop - start], panel[stop - start :]
        rows = columns[start:stop]
        rows.addmm_(below.T, columns[stop:], alpha=-1)
        rows.copy_(torch.linalg.solve_triangular(own.T, rows, upper=True))


def inverse_of_factor(factor: Real) -> Real:
    """Return ``M⁻¹`` on and below the diagonal, in the place of the lower Cholesky factor of M ``[n, n]``.

    Cells above the diagonal are left as they are. By LAPACK up to `_LAPACK_ROWS`, in panels beyond, which takes half as
    much memory again.

    Parameters
    ----------
    factor
        By columns (Fortran order).
    """
    if len(factor) <= _LAPACK_ROWS:
        (potri,) = scipy.linalg.lapack.get_lapack_funcs(("potri",), dtype=factor.dtype)
        inverse, _ = potri(factor, lower=True, overwrite_c=True)
        return np.asarray(inverse)
    PanelCholesky.of_dense(factor).inverse(factor)
    return factor


def _add_image(images: torch.Tensor, panel: torch.Tensor, probes: torch.Tensor, start: int, stop: int) -> None:
    """Add what a panel of M and its mirror image make of the probes ``[n, PROBES]``, in double precision."""
    cells = panel.double()
    images[start:] += cells @ probes[start:stop]
    images[start:stop] += cells[stop - start :].T @ probes[stop:]
