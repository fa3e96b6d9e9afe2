"""The baseline of a rating: how high items are rated on average, and how high a user rates.

``b_ui = μ + b_u + b_i`` with ``b_i = Σ_u (r_ui − μ) / (λ_i + n_i)`` and ``b_u = Σ_i (r_ui − μ − b_i) / (λ_u + n_u)``:
means that few ratings move little (Koren, *Factor in the Neighbors: Scalable and Accurate Collaborative Filtering*,
2010, Sec. 2.1). b_u is made of a history when it is asked about, so a user the fit never saw has one too; that of an
empty history is 0.

Notation used for shapes: b users, I items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import NonNegativeFloat

from coldray.data.dataset import rows_of
from coldray.models.base import ModelConfig, TrainingSet

Double = npt.NDArray[np.float64]


class BaselineConfig(ModelConfig):
    """Parameters of models that predict what the baseline leaves."""

    item_damping: NonNegativeFloat = 5.0
    """λ_i, ratings at which an item's mean counts half."""
    user_damping: NonNegativeFloat = 5.0
    """λ_u, ratings at which a user's mean counts half."""


@dataclass(frozen=True, eq=False)
class RatingBaseline:
    """μ, b_i, and what b_u is made with."""

    mean: float
    """μ."""
    items: Double
    """b_i ``[I]``; 0 for an item without ratings."""
    user_damping: float
    """λ_u."""

    @classmethod
    def of(cls, train: TrainingSet, config: BaselineConfig) -> Self:
        """Return the baseline of the train ratings."""
        ratings = train.interactions
        mean = float(ratings.data.mean(dtype=np.float64))
        sums = np.bincount(ratings.indices, weights=ratings.data - mean, minlength=ratings.shape[1])
        return cls(mean, _damped(sums, train.clicks, config.item_damping), config.user_damping)

    def users(self, histories: sp.csr_array) -> Double:
        """Return b_u of each row ``[b]``."""
        counts = np.diff(histories.indptr)
        rest = histories.data - self.mean - self.items[histories.indices]
        sums = np.bincount(rows_of(histories), weights=rest, minlength=len(counts))
        return _damped(sums, counts, self.user_damping)

    def residuals(self, histories: sp.csr_array) -> sp.csr_array:
        """Return ``r_ui − b_ui`` where there are ratings, CSR float64 ``[b, I]``; a residual of 0 is stored too."""
        of_users = np.repeat(self.users(histories), np.diff(histories.indptr))
        rest = histories.data - self.mean - of_users - self.items[histories.indices]
        return sp.csr_array((rest, histories.indices, histories.indptr), shape=histories.shape)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what :meth:`from_arrays` rebuilds it from."""
        return {"mean": np.array([self.mean]), "item_biases": self.items, "user_damping": np.array([self.user_damping])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild a baseline."""
        return cls(float(arrays["mean"][0]), arrays["item_biases"], float(arrays["user_damping"][0]))


def _damped(sums: npt.NDArray[Any], counts: npt.NDArray[np.integer[Any]], damping: float) -> Double:
    below = counts + damping
    means: Double = np.divide(sums, below, out=np.zeros(len(sums)), where=below > 0)
    return means
