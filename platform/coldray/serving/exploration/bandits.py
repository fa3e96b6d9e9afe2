"""Two ways to try out items that may be better than is known: LinUCB and Thompson sampling.

Both learn from sums (:mod:`~coldray.serving.exploration.outcomes`), so that what they know does not depend on the
order in which they heard of it.

Notation used for shapes: I items, m items with outcomes, p items of a pool, c numbers of a context, f of an item,
n = f + c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular

from coldray.serving.exploration.outcomes import CONTEXT, SCORE

Array = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
Places = npt.NDArray[np.integer[Any]]
LEAST_STANDING = 0.1
"""Part of the prior clicks of the best item of a pool that the last one has."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The items among which a list is chosen."""

    items: Places
    """Their indices ``[p]``, best score first."""
    scores: npt.NDArray[np.float32]
    """What the model gives them ``[p]``."""
    contexts: Array
    """What is known of the request and of each item's score in it ``[p, c]``."""
    draw: int
    """The number of the random draw."""


class Bandit(Protocol):
    """Learns from what became of items what they are worth to be shown."""

    def add(self, items: Places, sums: Array) -> None:
        """Take in what became of m items, given by their indices: ``Σ y yᵀ`` of each, ``[m, c + 1, c + 1]``."""

    def settle(self) -> None:
        """Make what was added count."""

    def values(self, pool: Pool) -> Array:
        """Return what each item of a pool is worth to be shown ``[p]``."""


class LinUCB:
    """Clicks as a linear function of item and context, and the upper bound of what they may be.

    The hybrid model of Li et al. (2010, algorithm 2): ``r = βᵀx + γᵢ``, with one β for all items, of which
    ``x = [item, context]``, and a constant of each item's own, so that those that are alike in all that is known of
    them are told apart by what becomes of them. A ridge λ holds β to β₀, which is 1 for the score and 0 elsewhere, and
    a ridge κ holds γ to 0: before any feedback the order is the model's, but for what the bound adds.

    With ``aᵢ = 1 / (nᵢ + κ)``, nᵢ outcomes of the item, and the sums ``x̄ᵢ = aᵢ Σ x`` and ``r̄ᵢ = aᵢ Σ r`` over these::

        A = λI + Σ x xᵀ − Σᵢ x̄ᵢ x̄ᵢᵀ / aᵢ,   b = λβ₀ + Σ r x − Σᵢ r̄ᵢ x̄ᵢ / aᵢ,   β = A⁻¹ b

    and the item is worth ``βᵀ(x − x̄ᵢ) + r̄ᵢ + α √((x − x̄ᵢ)ᵀ A⁻¹ (x − x̄ᵢ) + aᵢ)``.
    """

    def __init__(self, vectors: Vectors, *, alpha: float, ridge: float, own_ridge: float) -> None:
        """Begin without outcomes; `vectors` describe the items ``[I, f]``."""
        self._vectors, self._alpha, self._ridge, self._own_ridge = vectors, alpha, ridge, own_ridge
        size = vectors.shape[1] + CONTEXT
        self.sums = np.zeros((len(vectors), CONTEXT + 1, CONTEXT + 1))
        """``Σ y yᵀ`` of each item ``[I, c + 1, c + 1]``."""
        self.gram = np.zeros((size, size))
        """``Σ x xᵀ`` ``[n, n]``, exact as the sums are."""
        self.moment = np.zeros(size)
        """``Σ r x`` ``[n]``."""
        self.settle()

    def add(self, items: Places, sums: Array) -> None:
        """Take in what became of m items."""
        x, f = self._vectors[items].astype(np.float64), self._vectors.shape[1]
        shown, clicked = sums[:, 0, :CONTEXT], sums[:, :CONTEXT, CONTEXT]  # the first number of a context is 1
        across = x.T @ shown
        self.gram[:f, :f] += x.T @ (shown[:, :1] * x)
        self.gram[:f, f:] += across
        self.gram[f:, :f] += across.T
        self.gram[f:, f:] += sums[:, :CONTEXT, :CONTEXT].sum(axis=0)
        self.moment[:f] += x.T @ clicked[:, 0]
        self.moment[f:] += clicked.sum(axis=0)
        self.sums[items] += sums

    def settle(self) -> None:
        """Solve for β, and for what the bounds take."""
        size = len(self.moment)
        means, clicks, shares = self._means(np.flatnonzero(self.sums[:, 0, 0]))
        A = self.gram + self._ridge * np.eye(size) - means.T @ (means / shares[:, None])
        b = self.moment - means.T @ (clicks / shares)
        b[self._vectors.shape[1] + SCORE] += self._ridge
        factor = cholesky(A, lower=True)
        # Both at once: lists are made meanwhile.
        self._solved = cho_solve((factor, True), b), solve_triangular(factor, np.eye(size), lower=True)

    def _means(self, items: Places) -> tuple[Array, Array, Array]:
        """Return x̄ ``[m, n]``, r̄ ``[m]`` and a ``[m]`` of some items."""
        sums = self.sums[items]
        shares = 1 / (sums[:, 0, 0] + self._own_ridge)
        x = np.concatenate([sums[:, :1, 0] * self._vectors[items], sums[:, 0, :CONTEXT]], axis=1)
        return shares[:, None] * x, shares * sums[:, 0, CONTEXT], shares

    def values(self, pool: Pool) -> Array:
        """Return the upper bounds ``[p]``."""
        beta, root = self._solved
        means, clicks, shares = self._means(pool.items)
        x = np.concatenate([self._vectors[pool.items], pool.contexts], axis=1) - means
        bounds: Array = x @ beta + clicks + self._alpha * np.sqrt(((x @ root.T) ** 2).sum(axis=1) + shares)
        return bounds


class BetaThompson:
    """Draws from what the share of clicks of each item may be (Thompson, 1933; Chapelle and Li, 2011).

    The share of an item is ``Beta(a s + clicks, a + b − a s + misses)``: the prior holds a + b outcomes, of which the
    item that the model puts first in the pool has a as clicks (s = 1), and one that it puts lower fewer.
    """

    def __init__(self, n_items: int, *, prior: tuple[float, float], seed: int) -> None:
        """Begin without outcomes."""
        self._prior, self._seed = prior, seed
        self.clicks, self.misses = np.zeros(n_items), np.zeros(n_items)
        """Of each item ``[I]``."""

    def add(self, items: Places, sums: Array) -> None:
        """Take in what became of m items."""
        shown, clicked = sums[:, 0, 0], sums[:, 0, CONTEXT]
        np.add.at(self.clicks, items, clicked)
        np.add.at(self.misses, items, shown - clicked)

    def settle(self) -> None:
        """Do nothing: counts are all there is."""

    def values(self, pool: Pool) -> Array:
        """Draw a share of clicks for each item ``[p]``; the same one for the same pool, number and seed."""
        scores = pool.scores.astype(np.float64)
        spread = scores.max() - scores.min()
        standing = (scores - scores.min()) / spread if spread > 0 else np.ones(len(scores))
        a, b = self._prior
        clicks = a * (LEAST_STANDING + (1 - LEAST_STANDING) * standing)
        generator = np.random.default_rng([self._seed, pool.draw])
        drawn: Array = generator.beta(clicks + self.clicks[pool.items], a + b - clicks + self.misses[pool.items])
        return drawn
