"""TwoTower: users by their clicks and items by their attributes, in one space in which the nearest items are searched.

The networks are in :mod:`~coldray.models.neural.two_tower_network`, the loss in
:mod:`~coldray.models.neural.two_tower_training`.

Notation used for shapes: b histories, n items, I items, F inputs, d dimensions.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch

from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.neural.base import INPUTS, NeuralModel
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.two_tower_network import TwoTowerConfig, TwoTowers
from coldray.models.neural.two_tower_training import TwoTowerTask
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under

TERMS, ENTRIES = 8, 48
"""Terms of all attributes for each item, and how many an item has, that the check of memory reckons with."""
CLICKS = 256
"""Clicks of a user in a batch that it reckons with."""


class TwoTower(NeuralModel[TwoTowerConfig]):
    """Cosines of users and items."""

    name: ClassVar[str] = "two_tower"
    config_type: ClassVar[type[ModelConfig]] = TwoTowerConfig
    scores_cold_items: ClassVar[bool] = True

    def __init__(self, config: TwoTowerConfig | None = None) -> None:
        super().__init__(config)
        self._vectors: tuple[torch.Tensor, torch.Tensor] | None = None

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return the encoded attributes, and which items have vectors of their own."""
        return {**ItemAttributes.of(train).arrays(), "warm": train.warm_items}

    def network(self, inputs: Arrays, n_items: int) -> TwoTowers:
        """Return new towers."""
        return TwoTowers(self.config, ItemAttributes.from_arrays(inputs), inputs["warm"])

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> TwoTowerTask:
        """Return the training on `train`."""
        return TwoTowerTask(self.config, train, ItemAttributes.from_arrays(inputs), validation)

    def stops_by_items(self, train: TrainingSet) -> bool:
        """Tell whether whole items are held out to stop by."""
        return self.config.stop_by == "items" and bool(train.features.features)

    def fit(self, train: TrainingSet, computations: Computations | None = None) -> Self:
        """Train the towers.

        Raises
        ------
        DataError
            If there is no click, a user has clicked all there is, or attributes tell no item from the others.
        CatalogTooLargeError
            If the training does not fit in memory.
        DivergedError
            If the loss is not finite any more.
        """
        self._vectors = None
        return super().fit(train, computations)

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what weights with their moments, attributes, and the logits and towers of a step take."""
        config, dim = self.config, self.config.embedding_dim
        users = min(config.batch_size, n_users)
        listed = min(n_items, users * (CLICKS + config.positives))
        weights = 5 * (TERMS * n_items * config.hidden_dim + 2 * n_items * dim)
        attributes = 3 * 3 * ENTRIES * n_items
        logits = 6 * (users * config.positives) ** 2
        units = config.n_layers * config.hidden_dim + dim
        towers = 6 * units * (listed + 2 * users * config.positives)
        return 4 * (weights + attributes + logits + towers)

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"Two towers on {n_items:,} items",
            way_out="Use a smaller hidden_dim, embedding_dim, batch_size or positives, or fewer items through the "
            "filters (min_item_interactions).",
        )

    def item_vectors(self, items: Items) -> Scores:
        """Return the unit vectors of items, float32 ``[n, d]``: scores are their inner products with those of users."""
        return np.ascontiguousarray(self._all_items()[0][_places(items)].numpy())

    def scorer(self, items: Items) -> Scorer:
        """Return the function that scores `items` for histories, by the vectors that are made once."""
        network, (vectors, clicked) = self.fitted_network, self._all_items()
        wanted = vectors[_places(items)].T  # [d, n]

        def scores(histories: sp.csr_array) -> Scores:
            with torch.no_grad():
                found: Scores = (network.user_vectors(histories, clicked) @ wanted).numpy()
            return found

        return scores

    def user_vectors(self, histories: sp.csr_array) -> Scores:
        """Return the unit vectors of users with these clicks, float32 ``[b, d]``."""
        clicked = self._all_items()[1]
        with torch.no_grad():
            found: Scores = self.fitted_network.user_vectors(histories, clicked).numpy()
        return found

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, whose vectors their attributes give."""
        self.check_fitted()
        inputs = arrays_under(INPUTS, self._state)
        longer = ItemAttributes.from_arrays(inputs).extended(features)
        return self.extended({**longer.arrays(), "warm": inputs["warm"]}, features.n_items)

    @property
    def fitted_network(self) -> TwoTowers:
        """The trained towers."""
        network = super().fitted_network
        if not isinstance(network, TwoTowers):  # pragma: no cover  network() makes no other
            raise TypeError("These are no two towers.")
        return network

    def _all_items(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vectors of all items, and what their clicks add to a history; made when first asked for."""
        self.check_fitted()
        if self._vectors is None:
            with torch.no_grad():
                self._vectors = self.fitted_network.all_items()
        return self._vectors


def _places(items: Items) -> torch.Tensor:
    return torch.from_numpy(np.array(items, np.int64))
