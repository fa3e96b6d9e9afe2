"""The item weights of KernelAlign in its exact form: conditional means over all warm items, smoothed over users.

Notation used for shapes: b rows, W warm items, C cold items, n items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items
from coldray.models.user_smoothing import UserSmoother

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ExactWeights:
    """What scores are made of: ``X_w B`` with the weights B of each item on the warm items."""

    warm_items: Items
    """Indices ``[W]``."""
    cold_items: Items
    """Indices ``[C]``, added items last."""
    precision: Matrix
    """``(K_ww + σ²I)⁻¹`` ``[W, W]``."""
    noise: float
    """σ²."""
    smoother: UserSmoother
    cold_weights: Matrix
    """B of the cold items ``[W, C]``."""

    @property
    def n_items(self) -> int:
        """Warm and cold items."""
        return len(self.warm_items) + len(self.cold_items)

    def columns(self, items: Items) -> Matrix:
        """Return B of some items ``[W, n]``."""
        place = np.empty(self.n_items, np.intp)
        place[self.warm_items] = np.arange(len(self.warm_items))
        place[self.cold_items] = np.arange(len(self.cold_items)) + len(self.warm_items)
        places = place[items]
        warm = np.flatnonzero(places < len(self.warm_items))
        cold = np.flatnonzero(places >= len(self.warm_items))
        weights = np.empty((len(self.warm_items), len(items)), np.float32)
        weights[:, cold] = self.cold_weights[:, places[cold] - len(self.warm_items)]
        if len(warm):
            weights[:, warm] = self.smoother.weights(self._means_of_warm(places[warm]))
        return weights

    def _means_of_warm(self, rows: Items) -> Matrix:
        """Return ``(K + σ²I)⁻¹K = I − σ²(K + σ²I)⁻¹`` of some warm items ``[W, n]``."""
        means = np.float32(-self.noise) * self.precision[:, rows]
        means[rows, np.arange(len(rows))] += 1
        return means

    def scorer(self, items: Items) -> Scorer:
        """Return the function ``X → X_w B`` on the columns of `items`."""
        weights = np.zeros((self.n_items, len(items)), np.float32)
        weights[self.warm_items] = self.columns(items)

        def scores(histories: sp.csr_array) -> Matrix:
            return np.asarray(histories @ weights, np.float32)

        return scores

    def influence(self, histories: Matrix) -> Matrix:
        """Return what each warm item's covariance with an item adds to its score, for histories ``[b, W]``."""
        return np.asarray(self.smoother.rows(histories) @ self.precision, np.float32)

    @property
    def basis_items(self) -> Items:
        """Items whose covariance with a new one is all that it takes: the warm ones."""
        return self.warm_items

    def append(self, between: Matrix) -> tuple[Self, Matrix]:
        """Return weights with new items, given by their covariance with the basis items ``[W, n]``.

        Also returned is by how much the clicks reduce the variance of each ``[n]``.
        """
        means = np.asarray(self.precision @ between, np.float32)
        added = np.arange(between.shape[1]) + self.n_items
        weights = np.concatenate([self.cold_weights, self.smoother.weights(means)], axis=1)
        appended = replace(self, cold_items=np.append(self.cold_items, added), cold_weights=weights)
        return appended, np.einsum("wn,wn->n", between, means)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that :meth:`from_state` needs."""
        return {
            "warm_items": self.warm_items,
            "cold_items": self.cold_items,
            "precision": self.precision,
            "noise": np.array([self.noise]),
            "cold_weights": self.cold_weights,
            **{f"smoother.{name}": value for name, value in self.smoother.state().items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild the weights."""
        smoother = {name.removeprefix("smoother."): state[name] for name in state if name.startswith("smoother.")}
        return cls(
            state["warm_items"],
            state["cold_items"],
            state["precision"],
            float(state["noise"][0]),
            UserSmoother.from_state(smoother),
            state["cold_weights"],
        )
