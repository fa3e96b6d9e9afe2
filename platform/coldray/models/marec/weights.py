"""The item weights Θ of MARec: computed on demand after a fit, or as they are stored.

A learned similarity may be one more term of the mixture.

Notation used for shapes: n items, I all items, W warm ones, J aligned items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.device import Matrix
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, TrainingSet
from coldray.models.marec.alignment import (
    Alignment,
    aligned_inverse,
    item_weights,
    require_closed_form_memory,
    stacked_features,
    system_items,
)
from coldray.models.marec.cold_elimination import ColdElimination
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.mixture import Weights
from coldray.models.marec.ridge import CholeskyRidge, RidgeSystem
from coldray.models.marec.similarity import Similarities, mix
from coldray.models.transfer.similarity import LearnedSimilarity, TransferConfig, TransferNetwork, arrays_under


@dataclass(frozen=True, eq=False)
class Refinement:
    """What is added to the similarity g: ``weight · unit · sim``."""

    prefix: str
    """Names its arrays, such as ``ca``."""
    learned: LearnedSimilarity
    weight: float
    """The fusion weight: 1 gives the learned similarity as much say as the mixture it is added to."""
    unit: float
    """Mean absolute value of the mixture over that of the learned similarity, when it was fitted."""
    history: Mapping[str, npt.NDArray[Any]]
    """The course of its training, epoch by epoch."""

    @classmethod
    def of(
        cls,
        prefix: str,
        learned: LearnedSimilarity,
        weight: float,
        arrays: Mapping[str, npt.NDArray[Any]],
        similarity: Matrix,
        aligned: FeatureSet,
    ) -> Refinement:
        """Put a learned similarity in the unit of the mixture `similarity` ``[W, J]`` to the `aligned` items."""
        size = float(np.abs(learned.between(aligned)).mean()) if aligned.n_items else 0.0
        unit = float(np.abs(similarity).mean()) / size if size > 0 else 1.0
        return cls(prefix, learned, weight, unit, arrays_under("history.", arrays))

    def between(self, features: FeatureSet) -> Matrix:
        """Return the term between the warm items and others, float32 ``[W, n]``."""
        return np.float32(self.weight * self.unit) * self.learned.between(features)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return its arrays, each name under the prefix."""
        history = {f"history.{name}": values for name, values in self.history.items()}
        arrays = {**self.learned.arrays(), **history, "unit": np.array([self.unit])}
        return {f"{self.prefix}.{name}": values for name, values in arrays.items()}

    @classmethod
    def stored(
        cls,
        prefix: str,
        network: type[TransferNetwork],
        config: TransferConfig,
        weight: float,
        state: Mapping[str, npt.NDArray[Any]],
    ) -> Refinement:
        """Rebuild it from the arrays of a model."""
        arrays = arrays_under(f"{prefix}.", state)
        learned = LearnedSimilarity.from_arrays(network, config, arrays)
        return cls(prefix, learned, weight, float(arrays["unit"][0]), arrays_under("history.", arrays))


INVERSE_BYTES = 32
"""Bytes that an inverse takes at its peak for each pair of items, beside what a fit holds."""
_STORED_BYTES = 40
"""The same for what is stored for new items."""


class FittedWeights:
    """A fit whose item weights are computed on demand."""

    def __init__(
        self,
        train: TrainingSet,
        config: MARecConfig,
        mixture: Weights,
        similarity: Matrix,
        ridge: RidgeSystem,
        refinements: Sequence[Refinement] = (),
    ) -> None:
        self.train, self.config, self.mixture, self.similarity, self.ridge = train, config, mixture, similarity, ridge
        self.refinements = refinements
        self.features = train.features
        self.alignment = Alignment.of(train, lambda_0=config.lambda_0)
        self.rows = system_items(train, self.alignment)
        self.n_items = train.interactions.shape[1]
        self.scale = config.alpha * config.beta

    @property
    def warm_items(self) -> Items:
        """Items with clicks."""
        return self.train.warm_items

    @property
    def cold_items_alone(self) -> bool:
        """True if no warm item is aligned, nor coupled with the cold ones."""
        return self.alignment.triangular

    def columns(self, items: Items) -> Matrix:
        """Return the rows of Θ that are not zero, on the columns of `items`."""
        if not self.alignment.triangular:
            if self._eliminates and np.isin(items, self.alignment.items).all():
                at = np.searchsorted(self.alignment.items, items)
                return self._elimination.columns(self.train.warm_items, self.alignment.items, at)
            return self._all_columns[:, items]
        weights = np.zeros((len(self.rows), len(items)), np.float32)
        cold = np.isin(items, self.alignment.items)
        if cold.any():
            at = np.searchsorted(self.alignment.items, items[cold])
            smoothed = self.ridge.solve_gram(np.ascontiguousarray(self.similarity[:, at]))
            weights[:, cold] = np.float32(self.scale) * smoothed
        if not cold.all():
            weights[:, ~cold] = self._warm_columns[:, np.searchsorted(self.rows, items[~cold])]
        return weights

    @cached_property
    def _warm_columns(self) -> Matrix:
        return item_weights(self.ridge.inverse())

    @cached_property
    def _coclicks(self) -> sp.csr_array:
        """C on all rows and the warm columns."""
        clicks = self.train.interactions
        return sp.csr_array(clicks[:, self.rows].T @ clicks[:, self.train.warm_items])

    @property
    def _eliminates(self) -> bool:
        """True if cold columns come from a factor over the warm items, though λ₀ couples them."""
        return isinstance(self.ridge, CholeskyRidge) and self.alignment.cold_alone and not self.alignment.triangular

    @cached_property
    def _elimination(self) -> ColdElimination:
        if not isinstance(self.ridge, CholeskyRidge):
            raise TypeError("Cold items are eliminated with a factor over the warm items.")
        return ColdElimination.of(self.ridge, self.alignment.items, self.similarity, self.scale)

    @cached_property
    def _inverse(self) -> npt.NDArray[np.float64]:
        n_items, n_aligned = self.n_items, len(self.alignment.items)
        require_closed_form_memory(INVERSE_BYTES * n_items**2 + 24 * n_items * n_aligned, n_items)
        if self._eliminates:
            return self._elimination.inverse(self.ridge.inverse(), self.train.warm_items, self.alignment.items)
        aligned = np.asarray(self._coclicks @ self.similarity, np.float32)
        coupled = self.config.lambda_0 > 0
        return aligned_inverse(self.ridge.inverse(), aligned, self.alignment, self.scale, coupled=coupled)

    @cached_property
    def _all_columns(self) -> Matrix:
        return item_weights(self._inverse)

    def restored(self) -> StoredWeights:
        """Return the same weights, all computed, with what new items need."""
        require_closed_form_memory(
            _STORED_BYTES * len(self.rows) ** 2 + 4 * len(self.rows) * self.n_items, self.n_items
        )
        state: dict[str, npt.NDArray[Any]] = {
            "rows": self.rows,
            "warm_items": self.train.warm_items,
            "weights": self.columns(np.arange(self.n_items)),
            "mixture": self.mixture,
        }
        if self.alignment.triangular:
            state["transfer"] = np.float32(self.scale) * self.ridge.solve_gram(np.eye(len(self.rows), dtype=np.float32))
        else:
            state["transfer"] = np.asarray(self.scale * (self._inverse @ self._coclicks.toarray()), np.float32)
            if self.config.lambda_0 > 0:
                state["inverse"] = self._inverse.astype(np.float32)
        for refinement in self.refinements:
            state |= refinement.arrays()
        return StoredWeights(self.features, state, self.refinements)


class StoredWeights:
    """Item weights as they are stored."""

    def __init__(
        self, features: FeatureSet, state: Mapping[str, npt.NDArray[Any]], refinements: Sequence[Refinement] = ()
    ) -> None:
        self.features, self.refinements = features, refinements
        self._state = state
        self.rows, self.mixture = state["rows"], state["mixture"]
        self.warm_items: Items = state["warm_items"]
        """Items with clicks."""
        self.n_items = state["weights"].shape[1]

    def columns(self, items: Items) -> Matrix:
        """Return the stored rows of Θ on the columns of `items`."""
        return self._state["weights"][:, items]

    def restored(self) -> StoredWeights:
        """Return itself."""
        return self

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return what is stored."""
        return self._state

    def with_items(self, new: FeatureSet, config: MARecConfig) -> StoredWeights:
        """Return weights with a column for each item of `new` appended."""
        warm = self.features.take(self._state["warm_items"])
        similarity = mix(Similarities(warm, new, config.smoothing), self.mixture, config.order)
        for refinement in self.refinements:
            similarity = similarity + refinement.between(new)
        columns = np.asarray(self._state["transfer"] @ similarity)
        if "inverse" in self._state:
            fitted = self.features.take(self.rows)  # with λ₀ > 0 these are all items of the fit
            coupling = (stacked_features(fitted) @ stacked_features(new, fitted).T).toarray()
            columns += np.float32(config.lambda_0) * (self._state["inverse"] @ coupling)
        weights = np.concatenate([self._state["weights"], columns.astype(np.float32)], axis=1)
        return StoredWeights(self.features.append(new), {**self._state, "weights": weights}, self.refinements)
