"""Models that rank by a learned similarity alone.

Notation used for shapes: W warm items, n items, I all items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg.products import click_products
from coldray.models.state import ArrayModel
from coldray.models.transfer.similarity import (
    LearnedSimilarity,
    Matrix,
    TransferConfig,
    TransferNetwork,
    arrays_under,
)
from coldray.models.transfer.training import shared_training
from coldray.training.options import TRAINING_OPTIONS, FitOptions

ConfigT = TypeVar("ConfigT", bound=TransferConfig)


class LearnedTransfer(ArrayModel[ConfigT], Generic[ConfigT]):
    """A model that ranks by a learned similarity alone: the scores of users are ``X_w · sim``.

    A subclass names its `network`. The course of the training is in :attr:`history`.
    """

    network: ClassVar[type[TransferNetwork]]
    item_array: ClassVar[str] = "confidence"
    scores_cold_items: ClassVar[bool] = True
    fit_options: ClassVar[tuple[str, ...]] = TRAINING_OPTIONS

    def __init__(self, config: ConfigT | None = None) -> None:
        super().__init__(config)
        self._learned: LearnedSimilarity | None = None

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Train the network and compute the similarity of all items to the warm ones.

        Raises
        ------
        DataError
            If no item has a click, or none an attribute to learn from.
        ConfigError
            If a batch is larger than the training data.
        DivergedError
            If the loss is not finite any more.
        """
        shared = computations or Computations()
        self.check_size(*train.interactions.shape)
        arrays = shared_training(shared, train, network=self.network, config=self.config.learning(), options=options)
        self._learned = LearnedSimilarity.from_arrays(self.network, self.config, arrays)
        weights = self._learned.between(train.features)
        warm = train.warm_items
        weights[np.arange(len(warm)), warm] = 0  # a click says nothing about itself
        confidence = self._learned.confidence(train.features).astype(np.float32)
        self._state = {**arrays, "warm_items": warm, "weights": weights, "confidence": confidence}
        return self

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the item × item similarity takes while it is made."""
        return 8 * n_items**2

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check the item × item similarity."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"The similarity of {n_items:,} items to one another",
            way_out="Use fewer items through the filters (min_item_interactions), or a machine with more memory.",
        )

    @property
    def history(self) -> Mapping[str, npt.NDArray[np.float64]]:
        """Loss, its parts and the validation metric, epoch by epoch."""
        self.check_fitted()
        return arrays_under("history.", self._state)

    def confidence(self, items: Items) -> npt.NDArray[np.float32]:
        """Return how far the model trusts what it makes of each item's attributes ``[n]``; 1 is average."""
        self.check_fitted()
        confidence: npt.NDArray[np.float32] = self._state["confidence"][items]
        return confidence

    def scorer(self, items: Items) -> Scorer:
        """Return the function ``X → X_w · sim`` on the columns of `items`."""
        self.check_fitted()
        rows, weights = self._state["warm_items"], self._state["weights"][:, items]

        def scores(histories: sp.csr_array) -> Matrix:
            return click_products(sp.csr_array(histories[:, rows]), weights)

        return scores

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, by what the network makes of their attributes."""
        self.check_fitted()
        if self._learned is None:  # pragma: no cover  check_fitted has raised
            raise AssertionError
        weights = np.concatenate([self._state["weights"], self._learned.between(features)], axis=1)
        confidence = np.append(self._state["confidence"], self._learned.confidence(features)).astype(np.float32)
        extended = type(self)(self.config)
        extended._learned = self._learned
        extended._state = {**self._state, "weights": weights, "confidence": confidence}
        return extended

    @classmethod
    def from_state(cls, config: ConfigT, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild the model."""
        model = super().from_state(config, state, features)
        model._learned = LearnedSimilarity.from_arrays(cls.network, config, state)
        return model
