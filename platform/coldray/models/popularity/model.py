"""Popularity: every user is given the items that most users click.

Warm items score ``log(clicks + 1)``; an item without clicks scores what its attributes predict of the same number
(:mod:`~coldray.models.popularity.head`). It is the baseline that any personal list has to beat.

Notation used for shapes: b users in a block, I items, n items asked for.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.popularity.head import PopularityHead, forest_bytes, learn_popularity
from coldray.models.state import ArrayModel
from coldray.training.options import FitOptions


class PopularityConfig(ModelConfig):
    """Parameters of :class:`Popularity`."""

    trees: PositiveInt = 200
    """Trees of the prediction."""
    min_leaf: PositiveInt = 5
    """Items in a leaf at least."""
    folds: int = Field(default=10, ge=2)
    """Folds of the target encodings; fewer where there are fewer items."""
    shrinkage: NonNegativeFloat = 10.0
    """Items at the mean added to every label's target encoding."""
    ridge: PositiveFloat = 0.35
    """Regularization of the ridge regression among the columns, in mean squared lengths of an item's attributes."""
    seed: NonNegativeInt = 0
    """Seed of the folds and the trees."""


class Popularity(ArrayModel[PopularityConfig]):
    """Log clicks, known or predicted: the same list for all users."""

    name: ClassVar[str] = "popularity"
    config_type: ClassVar[type[ModelConfig]] = PopularityConfig
    item_array: ClassVar[str] = "popularity"
    scores_cold_items: ClassVar[bool] = True
    personalised: ClassVar[bool] = False

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Count the clicks and learn to predict them.

        Raises
        ------
        DataError
            If no item has a click.
        CatalogTooLargeError
            If what is learned does not fit in memory.
        """
        self.check_options(options)
        config = self.config
        head = (computations or Computations()).get(
            learn_popularity,
            train,
            trees=config.trees,
            seed=config.seed,
            min_leaf=config.min_leaf,
            folds=config.folds,
            shrinkage=config.shrinkage,
            ridge=config.ridge,
        )
        popularity = np.log1p(train.clicks).astype(np.float32)
        cold = train.cold_items
        popularity[cold] = PopularityHead.from_arrays(head).log_clicks(train.features.take(cold))
        self._state = {**head, "popularity": popularity}
        return self

    @property
    def takes_clicks(self) -> bool:
        """True: clicks are counted."""
        return True

    def with_clicks(self, train: TrainingSet) -> Self:
        """Return the model with the clicks of `train` counted; items without one keep what is predicted of them."""
        self.check_fitted()
        counted = np.log1p(train.clicks).astype(np.float32)
        knowing = type(self)(self.config)
        knowing._state = {**self._state, "popularity": np.where(train.clicks > 0, counted, self._state["popularity"])}
        return knowing

    def with_clicks_on(self, items: Items, interactions: sp.csr_array) -> Self:
        """Return the model with the clicks on some items counted; of others, and without one, nothing changes."""
        self.check_fitted()
        counts = np.bincount(interactions.indices, minlength=self.n_items)[items]
        popularity = self._state["popularity"].copy()
        popularity[items[counts > 0]] = np.log1p(counts[counts > 0])
        knowing = type(self)(self.config)
        knowing._state = {**self._state, "popularity": popularity}
        return knowing

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the trees take; the fit, which knows the attributes, checks what those take."""
        return forest_bytes(n_items, self.config.trees, self.config.min_leaf)

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"{self.config.trees:,} trees on {n_items:,} items",
            way_out="Use fewer trees or a larger min_leaf.",
        )

    def scorer(self, items: Items) -> Scorer:
        """Return the function that gives every history the popularity of `items`."""
        self.check_fitted()
        popularity = self._state["popularity"][items]

        def scores(histories: sp.csr_array) -> Scores:
            return np.tile(popularity, (histories.shape[0], 1))

        return scores

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, at their predicted popularity."""
        self.check_fitted()
        predicted = PopularityHead.from_arrays(self._state).log_clicks(features)
        extended = type(self)(self.config)
        extended._state = {**self._state, "popularity": np.concatenate([self._state["popularity"], predicted])}
        return extended
