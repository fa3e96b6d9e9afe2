"""The covariance of items: kernels of their attributes, with weights learned by marginal likelihood.

``K = c₀ + Σ_k a_k C_k + Σ_s b_s exp(−ℓ_s Δx_s²) + a_p exp(−Σ_j l_j (1 − C_j) − Σ_s q_s Δx_s²)``: an additive part
and one product part. The interaction profiles Z of the warm items are taken for r draws of a Gaussian process with the
covariance ``M = K + σ²I``; the weights minimise ``[tr(ZᵀM⁻¹Z)/r + log det M] / 2n`` (Rasmussen and Williams, *Gaussian
Processes for Machine Learning*, 2006, Eq. 5.8, for r outputs). Its gradient in M is ``½(M⁻¹ − ααᵀ/r)/n`` with
``α = M⁻¹Z`` (Eq. 5.9).

Notation used for shapes: n items of a subset, r profile dimensions, K kernels, J of them in the product, S numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.linalg
from threadpoolctl import threadpool_limits

from coldray.core.errors import SingularMatrixError
from coldray.core.memory import require_memory
from coldray.features.feature_set import FeatureSet
from coldray.models.kernel_align.kernels import KernelBasis, KernelMatrices, Matrix
from coldray.models.linalg.panel_cholesky import inverse_of_factor

Double: TypeAlias = npt.NDArray[np.float64]
_DIAGNOSED = 512
"""Items on which the attributes of a covariance that fails are looked at."""
_LEARNING_RATE = 0.25
"""Step of Adam on the logarithms of the weights."""


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a covariance, all positive."""

    constant: float
    """c₀."""
    noise: float
    """σ²."""
    additive: Double
    """a_k ``[K]``."""
    bumps: Double
    """b_s ``[S]``."""
    bump_decays: Double
    """ℓ_s ``[S]``."""
    product: float
    """a_p."""
    decays: Double
    """l_j ``[J]``."""
    number_decays: Double
    """q_s ``[S]``."""

    @classmethod
    def initial(cls, n_kernels: int, n_product: int, n_numbers: int) -> Self:
        """Return where the learning begins: every part has some say."""
        return cls(
            constant=0.1,
            noise=0.5,
            additive=np.full(n_kernels, 0.5 / max(n_kernels, 1)),
            bumps=np.full(n_numbers, 0.1),
            bump_decays=np.full(n_numbers, 1.0),
            product=0.5,
            decays=np.full(n_product, 0.5),
            number_decays=np.full(n_numbers, 0.3),
        )

    def logarithms(self) -> Double:
        """Return the logarithms of all, in the order of the fields."""
        scalars = ([self.constant], [self.noise], self.additive, self.bumps, self.bump_decays, [self.product])
        return np.asarray(np.log(np.concatenate([*scalars, self.decays, self.number_decays])))

    def moved(self, logarithms: Double) -> Weights:
        """Return weights with those logarithms and the shapes of these."""
        sizes = (1, 1, len(self.additive), len(self.bumps), len(self.bumps), 1, len(self.decays), len(self.bumps))
        parts = np.split(np.exp(logarithms), np.cumsum(sizes)[:-1])
        constant, noise, additive, bumps, bump_decays, product, decays, number_decays = parts
        return Weights(
            float(constant[0]), float(noise[0]), additive, bumps, bump_decays, float(product[0]), decays, number_decays
        )


@dataclass(frozen=True, eq=False)
class ItemCovariance:
    """A covariance with learned weights."""

    basis: KernelBasis
    weights: Weights

    def between(self, rows: FeatureSet, columns: FeatureSet) -> Matrix:
        """Return ``K`` between two lists of items, float32 ``[r, c]``, without the noise."""
        shape = (rows.n_items, columns.n_items)
        return self._mixed(shape, self.basis.kernels(rows, columns), self.basis.distances(rows, columns))

    def of(self, matrices: KernelMatrices) -> Matrix:
        """Return ``K`` between the items that the kernels are of, float32 ``[r, c]``, without the noise."""
        _, *shape = matrices.terms.shape
        return self._mixed((shape[0], shape[1]), matrices.terms, matrices.distances)

    def _mixed(self, shape: tuple[int, int], kernels: Iterable[Matrix], distances: Iterable[Matrix]) -> Matrix:
        w = self.weights
        total = np.full(shape, w.constant, np.float32)
        exponent = np.zeros_like(total)
        for k, kernel in enumerate(kernels):
            if k in self.basis.product:
                exponent += np.float32(w.decays[self.basis.product.index(k)]) * (1 - kernel)
            total += np.float32(w.additive[k]) * kernel
        for s, distance in enumerate(distances):
            exponent += np.float32(w.number_decays[s]) * distance
            total += np.float32(w.bumps[s]) * np.exp(-np.float32(w.bump_decays[s]) * distance)
        np.exp(-exponent, out=exponent)
        exponent *= np.float32(w.product)
        total += exponent
        return total

    def least_definite(self, items: FeatureSet) -> str:
        """Return the attribute whose additive part has the smallest eigenvalue on (some of) the items, and that value.

        For messages: a covariance fails where the parts are hardly definite and the noise is too small to make up.
        """
        some = items.take(np.arange(min(items.n_items, _DIAGNOSED)))
        smallest: dict[str, float] = {}
        parts = zip(self.basis.terms, self.weights.additive, self.basis.kernels(some, some), strict=True)
        for term, weight, kernel in parts:
            value = float(np.linalg.eigvalsh(weight * kernel.astype(np.float64))[0])
            smallest[term.attribute] = min(value, smallest.get(term.attribute, value))
        for name, weight, decay, distance in zip(
            self.basis.numbers,
            self.weights.bumps,
            self.weights.bump_decays,
            self.basis.distances(some, some),
            strict=True,
        ):
            np.fill_diagonal(distance, 0)
            smallest[name] = float(np.linalg.eigvalsh(weight * np.exp(-decay * distance.astype(np.float64)))[0])
        name = min(smallest, key=lambda attribute: smallest[attribute])
        return f"{name!r} (smallest eigenvalue {smallest[name]:.2g})"

    def variances(self, items: FeatureSet) -> npt.NDArray[np.float32]:
        """Return ``K_jj`` of each item, float32 ``[r]``, without the noise."""
        w = self.weights
        whole = w.constant + float(w.bumps.sum()) + w.product
        return np.asarray(
            sum((np.float32(a) * d for a, d in zip(w.additive, self.basis.diagonals(items), strict=True)), whole)
            * np.ones(items.n_items, np.float32),
            np.float32,
        )


class _MarginalLikelihood:
    """The negative log marginal likelihood a cell, and its gradient, on a subset of the warm items.

    M is symmetric, so only the cells on and below its diagonal are held, ``[m]`` of ``m = n(n + 1)/2``.
    """

    def __init__(
        self,
        basis: KernelBasis,
        items: FeatureSet,
        profiles: npt.NDArray[np.float32],
        matrices: KernelMatrices | None = None,
    ) -> None:
        self.basis, self.items, self.n = basis, items, items.n_items
        require_memory(
            2 * self.n * (self.n + 1) * (len(basis.terms) + 3 * len(basis.numbers) + 6) + 24 * self.n**2,
            purpose=f"Learning the covariance on {self.n:,} items",
            way_out="Lower subset.",
        )
        self.profiles = np.asfortranarray(profiles, dtype=np.float64)
        columns, rows = np.triu_indices(self.n)  # column by column, as LAPACK stores the lower triangle
        self.rows, self.columns = rows, columns
        self.own = np.flatnonzero(rows == columns)
        terms = matrices.terms if matrices else basis.kernels(items, items)
        distances = matrices.distances if matrices else basis.distances(items, items)
        self.kernels = self._cells(terms, len(basis.terms))
        for kernel, diagonal in zip(self.kernels, basis.diagonals(items), strict=True):
            kernel[self.own] = diagonal
        self.distances = self._cells(distances, len(basis.numbers))
        self.distances[:, self.own] = 0

    def _cells(self, matrices: Iterable[Matrix], count: int) -> Matrix:
        held = np.empty((count, len(self.rows)), np.float32)
        for row, matrix in zip(held, matrices, strict=True):
            row[:] = matrix[self.rows, self.columns]
        return held

    def __call__(self, weights: Weights) -> tuple[float, Double]:
        """Return the value, and the gradient in the logarithms of the weights.

        Raises
        ------
        SingularMatrixError
            If M is not positive definite.
        """
        bumps, product = self._parts(weights)
        factor, failed = scipy.linalg.lapack.dpotrf(
            self._covariance(weights, bumps, product), lower=True, overwrite_a=True, clean=False
        )
        if failed:
            weakest = ItemCovariance(self.basis, weights).least_definite(self.items)
            raise SingularMatrixError(
                f"The covariance of {self.n:,} items is not positive definite with noise {weights.noise:.3g}; its "
                f"least definite part is {weakest}. Raise min_noise, or leave that attribute out."
            )
        n, r = self.profiles.shape
        solved = scipy.linalg.cho_solve((factor, True), self.profiles, check_finite=False)
        value = (np.sum(self.profiles * solved) / r + 2 * np.log(np.diag(factor)).sum()) / (2 * n)
        inverse = inverse_of_factor(factor)
        inverse -= solved @ solved.T / r
        cells = (inverse[self.rows, self.columns] / n).astype(np.float32)
        cells[self.own] /= 2  # every other cell stands for its mirror image as well
        return float(value), self._pushed(weights, cells, bumps, product)

    def _parts(self, w: Weights) -> tuple[Matrix, Matrix]:
        """Return the bumps ``[S, m]`` and the product part ``[m]``."""
        single = np.float32
        bumps = np.exp(-w.bump_decays[:, None].astype(single) * self.distances) * w.bumps[:, None].astype(single)
        exponent = w.number_decays.astype(single) @ self.distances + single(w.decays.sum())
        chosen = np.zeros(len(self.kernels), single)
        chosen[list(self.basis.product)] = w.decays
        exponent -= chosen @ self.kernels
        np.negative(exponent, out=exponent)
        np.exp(exponent, out=exponent)
        exponent *= single(w.product)
        return bumps, exponent

    def _covariance(self, w: Weights, bumps: Matrix, product: Matrix) -> Double:
        """Return M with the cells on and below the diagonal filled in, in Fortran order."""
        cells = product + bumps.sum(axis=0) + np.float32(w.constant) + w.additive.astype(np.float32) @ self.kernels
        covariance: Double = np.zeros((self.n, self.n), order="F")
        covariance[self.rows, self.columns] = cells
        covariance[np.diag_indices(self.n)] += w.noise
        return covariance

    def _pushed(self, w: Weights, cells: Matrix, bumps: Matrix, product: Matrix) -> Double:
        """Push the gradient in M ``[m]`` through K: sums over cells, times the weight for its logarithm."""
        weighted = cells * product
        total = float(weighted.sum(dtype=np.float64))
        decays = (self.kernels @ weighted)[list(self.basis.product)] - total
        bump_decays = -((bumps * cells) * self.distances).sum(axis=1)
        return np.concatenate(
            [
                [w.constant * float(cells.sum(dtype=np.float64))],
                [w.noise * float(cells[self.own].sum(dtype=np.float64))],
                w.additive * (self.kernels @ cells),
                bumps @ cells,
                w.bump_decays * bump_decays,
                [total],
                w.decays * decays,
                -w.number_decays * (self.distances @ weighted),
            ]
        ).astype(np.float64)


def learn_weights(
    basis: KernelBasis,
    items: FeatureSet,
    profiles: npt.NDArray[np.float32],
    matrices: KernelMatrices | None = None,
    *,
    steps: int,
    min_noise: float = 1e-3,
) -> tuple[Weights, Double]:
    """Return the weights after `steps` of Adam on their logarithms, and the values on the way ``[steps]``.

    Parameters
    ----------
    items
        The subset of the warm items to learn on.
    profiles
        Their profiles ``[n, r]``.
    matrices
        Their kernels, if they are there already.
    min_noise
        Floor of σ².
    """
    likelihood = _MarginalLikelihood(basis, items, profiles, matrices)
    weights = Weights.initial(len(basis.terms), len(basis.product), len(basis.numbers))
    position = weights.logarithms()
    first, second = np.zeros_like(position), np.zeros_like(position)
    values = np.empty(steps)
    for step in range(steps):
        with threadpool_limits(1):  # matrices this small are factorised no faster by several threads that spin
            values[step], gradient = likelihood(weights)
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        corrected = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.99 ** (step + 1))
        position = position - _LEARNING_RATE * corrected[0] / (np.sqrt(corrected[1]) + 1e-10)
        position[1] = max(position[1], np.log(min_noise))
        weights = weights.moved(position)
    return weights, values
