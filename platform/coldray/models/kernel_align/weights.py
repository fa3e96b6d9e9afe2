"""The item weights of KernelAlign in its exact form: conditional means over all warm items, smoothed over users.

Notation used for shapes: b rows, W warm items, C cold items, n items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items
from coldray.models.kernel_align.posterior import NOT_MADE, warm_variance
from coldray.models.kernel_align.smoothing import UserSmoother
from coldray.models.linalg.panel_cholesky import PanelCholesky
from coldray.models.linalg.products import click_products

Matrix = npt.NDArray[np.float32]
_KEPT_BYTES = 2**25
"""Scores kept for the next configuration: those of a few thousand users on a thousand items."""
_WEIGHT_BYTES = 2**30
"""Weights of warm items that are made at once: those of 16,384 of them."""
_COLUMNS = 1024
"""Warm items whose weights are solved for at once."""


class LatestScores:
    """The scores of the items that were asked for last: configurations of a grid ask for the same items and users."""

    def __init__(self, smoother: UserSmoother, held: _ItemScores | None = None) -> None:
        self.smoother = smoother
        self._held = held

    def of(self, items: Items, means: Callable[[Items], Matrix]) -> _ItemScores:
        """Return the scores of `items`, whose conditional means are given by a function.

        Weights that are held are not made again: of a catalogue to which an item has been added, those of all others.
        """
        held = self._held
        if held is None or not np.array_equal(held.items, items):
            held = self._held = _ItemScores(np.array(items), self._weights(np.asarray(items), means, held))
        return held

    def columns(self, items: Items, means: Callable[[Items], Matrix]) -> Matrix:
        """Return the weights of `items` ``[W, n]``, as :meth:`of` does; few are not held in the place of many."""
        held = self._held
        if held is None or len(items) >= len(held.items):
            return self.of(items, means).weights
        return self._weights(items, means, held)

    def _weights(self, items: Items, means: Callable[[Items], Matrix], held: _ItemScores | None) -> Matrix:
        if held is None:
            return self.smoother.weights(means(items))
        known = np.isin(items, held.items)
        order = np.argsort(held.items)
        weights = np.empty((len(held.weights), len(items)), np.float32)
        weights[:, known] = held.weights[:, order[np.searchsorted(held.items, items[known], sorter=order)]]
        if not known.all():
            weights[:, ~known] = self.smoother.weights(means(items[~known]))
        return weights

    def appended(self) -> LatestScores:
        """Return the same for a catalogue with more items: those that are there keep their weights."""
        return LatestScores(self.smoother, self._held)


class _ItemScores:
    """Smoothed weights of some items ``[W, n]``, and the last products of histories with them."""

    def __init__(self, items: Items, weights: Matrix) -> None:
        self.items, self.weights = items, weights
        self._blocks: dict[int, tuple[sp.csr_array, Matrix]] = {}

    def products(self, histories: sp.csr_array, weights: Matrix) -> Matrix:
        """Return ``X B``; kept up to `_KEPT_BYTES`, for the same users."""
        key = hash(histories.indices.tobytes())
        kept = self._blocks.get(key)
        if kept is not None and _same(kept[0], histories):
            return kept[1]
        products = click_products(histories, weights)
        if (len(self._blocks) + 1) * products.nbytes <= _KEPT_BYTES:
            self._blocks[key] = histories, products
        return products


def _same(left: sp.csr_array, right: sp.csr_array) -> bool:
    if left.shape != right.shape:  # an added item has no click, yet a column
        return False
    pairs = ((left.indptr, right.indptr), (left.indices, right.indices), (left.data, right.data))
    return all(np.array_equal(one, other) for one, other in pairs)


@dataclass(frozen=True, eq=False)
class _Precision:
    """The inverse of the warm items' covariance as it is, which bundles of earlier versions hold."""

    cells: Matrix
    """``(K_ww + σ²I)⁻¹`` ``[W, W]``."""

    def solve(self, right: npt.NDArray[Any]) -> Matrix:
        """Return the inverse times ``[W, c]``."""
        return np.asarray(self.cells @ right, np.float32)

    def inverse_diagonal(self, places: Items) -> npt.NDArray[np.float64]:
        """Return the cells of the diagonal at some places ``[c]``."""
        return np.asarray(self.cells[places, places], np.float64)


@dataclass(frozen=True, eq=False)
class ExactWeights:
    """What scores are made of: ``X_w B`` with the weights B of each item on the warm items."""

    warm_items: Items
    """Indices ``[W]``."""
    cold_items: Items
    """Indices ``[C]``, added items last."""
    factor: PanelCholesky | _Precision
    """Solves with ``K_ww + σ²I`` ``[W, W]``."""
    noise: float
    """σ²."""
    cold_means: Matrix
    """Conditional means of the cold items ``[W, C]``."""
    smoothed: LatestScores
    """Shared by configurations that differ in nothing that the weights depend on."""
    by_others: bool = False
    """True if warm items are described by all others alone, False if by themselves, too."""

    @property
    def n_items(self) -> int:
        """Warm and cold items."""
        return len(self.warm_items) + len(self.cold_items)

    @property
    def basis_items(self) -> Items:
        """Items whose covariance with a new one is all that it takes: the warm ones."""
        return self.warm_items

    def scorer(self, items: Items, factors: Matrix | None = None) -> Scorer:
        """Return the function ``X → X_w B``, times a factor an item ``[n]`` if given, on the columns of `items`.

        B is made at once. Where it is asked for so many warm items that it would take more than `_WEIGHT_BYTES`, and a
        system to be solved for each, the systems of the users are solved instead as they come.
        """
        places = self.places(items)
        if 4 * len(self.warm_items) * int(np.sum(places < len(self.warm_items))) > _WEIGHT_BYTES:
            return partial(self._scores_by_user, places, factors)
        kept = self.smoothed.of(items, self._means)

        def scores(histories: sp.csr_array) -> Matrix:
            clicks = sp.csr_array(histories[:, self.warm_items])
            if factors is None:
                return click_products(clicks, kept.weights)
            return kept.products(clicks, kept.weights) * factors

        return scores

    def _scores_by_user(self, places: Items, factors: Matrix | None, histories: sp.csr_array) -> Matrix:
        rows = self.smoothed.smoother.rows(histories[:, self.warm_items].toarray())
        scores = np.empty((len(rows), len(places)), np.float32)
        warm = np.flatnonzero(places < len(self.warm_items))
        cold = np.flatnonzero(places >= len(self.warm_items))
        scores[:, cold] = (rows @ self.cold_means)[:, places[cold] - len(self.warm_items)]
        scores[:, warm] = (rows - np.float32(self.noise) * self.factor.solve(rows.T).T)[:, places[warm]]
        return scores if factors is None else scores * factors

    def places(self, items: Items) -> Items:
        """Return where some items are among the warm ones, or W and more for the cold ones ``[n]``."""
        place = np.empty(self.n_items, np.intp)
        place[self.warm_items] = np.arange(len(self.warm_items))
        place[self.cold_items] = np.arange(len(self.cold_items)) + len(self.warm_items)
        return place[items]

    def _means(self, items: Items) -> Matrix:
        """Return the conditional means of some items ``[W, n]``."""
        places = self.places(items)
        warm = np.flatnonzero(places < len(self.warm_items))
        cold = np.flatnonzero(places >= len(self.warm_items))
        means = np.empty((len(self.warm_items), len(items)), np.float32)
        means[:, cold] = self.cold_means[:, places[cold] - len(self.warm_items)]
        # Of warm items they are (K + σ²I)⁻¹K = I − σ²(K + σ²I)⁻¹; given the others alone, −(K + σ²I)⁻¹_j over its own
        # cell (Rasmussen and Williams, Eq. 5.12), and 0 on the item itself.
        for start in range(0, len(warm), _COLUMNS):
            block = warm[start : start + _COLUMNS]
            own = np.zeros((len(self.warm_items), len(block)), np.float32)
            own[places[block], np.arange(len(block))] = 1
            solved = self.factor.solve(own)
            factor = 1 / solved[places[block], np.arange(len(block))] if self.by_others else np.float32(self.noise)
            means[:, block] = own - factor * solved
        return means

    def variances(self, items: Items, cold: Matrix) -> Matrix:
        """Return the variances of some items ``[n]``, where those of cold ones are known ``[I]``."""
        found = cold[items]
        unknown = np.flatnonzero(found == NOT_MADE)
        found[unknown] = warm_variance(self.factor, self.noise, self.places(items[unknown]))
        return found

    def columns(self, items: Items) -> Matrix:
        """Return B of some items ``[W, n]``, which may be kept and are not to be changed."""
        return self.smoothed.columns(items, self._means)

    def missed(self, values: npt.NDArray[np.float64], places: Items) -> npt.NDArray[np.float64]:
        """Return values of warm items ``[W]`` less what all others say of each, at some places ``[c]``."""
        solved = np.asarray(self.factor.solve(values[:, None])[places, 0], np.float64)
        return solved / self.factor.inverse_diagonal(places)

    def influence_on(self, influence: Matrix, item: int) -> Matrix:
        """Return what :meth:`influence` is on one item: of a warm one described by others, without its own place."""
        place = int(self.places(np.array([item]))[0])
        if not self.by_others or place >= len(self.warm_items):
            return influence
        own = np.zeros((len(self.warm_items), 1), np.float32)
        own[place] = 1
        solved = self.factor.solve(own)[:, 0]
        return np.asarray(influence - np.outer(influence[:, place], solved / solved[place]), np.float32)

    def influence(self, histories: Matrix) -> Matrix:
        """Return what each warm item's covariance with an item adds to its score, for histories ``[b, W]``."""
        return np.asarray(self.factor.solve(self.smoothed.smoother.rows(histories).T).T, np.float32)

    def append(self, between: Matrix) -> tuple[Self, Matrix]:
        """Return weights with new items, given by their covariance with the basis items ``[W, n]``.

        Also returned is by how much the clicks reduce the variance of each ``[n]``.
        """
        means = np.asarray(self.factor.solve(between), np.float32)
        added = np.arange(between.shape[1]) + self.n_items
        joined = np.concatenate([self.cold_means, means], axis=1)
        cold, smoothed = np.append(self.cold_items, added), self.smoothed.appended()
        appended = replace(self, cold_items=cold, cold_means=joined, smoothed=smoothed)
        return appended, np.einsum("wn,wn->n", between, means)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that :meth:`from_state` needs."""
        solver = "precision" if isinstance(self.factor, _Precision) else "factor"
        return {
            "warm_items": self.warm_items,
            "cold_items": self.cold_items,
            solver: self.factor.cells,
            "noise": np.array([self.noise]),
            "cold_means": self.cold_means,
            **{f"smoother.{name}": value for name, value in self.smoothed.smoother.state().items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild the weights, those of earlier versions too."""
        smoother = {name.removeprefix("smoother."): state[name] for name in state if name.startswith("smoother.")}
        warm = state["warm_items"]
        old = "precision" in state
        return cls(
            warm,
            state["cold_items"],
            _Precision(state["precision"]) if old else PanelCholesky(state["factor"], len(warm)),
            float(state["noise"][0]),
            state["cold_means"],
            LatestScores(UserSmoother.from_state(smoother)),
        )
