"""ProfileKNN: a user is given what the users most like them click, by who they are and by what they clicked.

Users are compared by their attributes, each with its own similarity of equal weight, the smoothed cosine of labels or
words and the distance of numbers (:mod:`~coldray.models.marec.similarity`), and by their clicks
(:mod:`~coldray.models.neighbours.similarity`). With n clicks

    s = κ/(n + κ) · s_attributes + n/(n + κ) · s_clicks ,

and item j has the score ``Σ_{v ∈ N, v clicked j} s_v`` over the k users N of the fit most similar. Whoever is like
nobody is as far from all: the score is then how many users clicked the item.

Notation used for shapes: U users with clicks in the fit, I items, n items asked for, b users in a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ProfileScorer, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.marec.similarity import Similarities, mix
from coldray.models.neighbours.similarity import NeighbourConfig
from coldray.models.neighbours.user import UserNeighbours
from coldray.models.state import unknown_user, users_of, users_state
from coldray.training.options import FitOptions

_MANY_ATTRIBUTES = 32
"""Attributes that the check of memory reckons with."""
_ROWS = 256
"""Users whose similarities by each attribute are held at once."""


class ProfileKNNConfig(NeighbourConfig):
    """Parameters of :class:`ProfileKNN`."""

    k: PositiveInt = 200
    """Neighbours at most; those that are not similar at all are left out."""
    shrinkage: NonNegativeFloat = 20.0
    """Clicks in common at which a similarity by clicks counts half; 0 trusts all alike."""
    delta: PositiveFloat = 10.0
    """δ, smoothing of the cosine: the lower, the more two users with a single label each can be alike."""
    prior_clicks: PositiveFloat = 30.0
    """κ, clicks at which these say as much of who is alike as the attributes do."""


class ProfileKNN(UserNeighbours[ProfileKNNConfig]):
    """The clicks of the users nearest by attributes, and by clicks more and more."""

    name: ClassVar[str] = "profile_knn"
    config_type: ClassVar[type[ProfileKNNConfig]] = ProfileKNNConfig
    reads_users: ClassVar[bool] = True

    def __init__(self, config: ProfileKNNConfig | None = None) -> None:
        super().__init__(config)
        self._users = FeatureSet({}, 0)

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Keep the clicks and the features of the users who have clicks.

        Raises
        ------
        MissingFieldError
            If nothing is known of users but their clicks.
        DataError
            If no user has a click.
        CatalogTooLargeError
            If the similarities of a block of users do not fit in memory.
        """
        users = train.of_users.features
        active = np.flatnonzero(np.diff(train.interactions.indptr) > 0)
        known = users.take(active)
        super().fit(replace(train, interactions=train.interactions[active], users=known), computations, options)
        self._users = known
        return self

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the counts and the similarities of the users that are looked at at once take."""
        return super().memory_bytes(n_users, n_items) + 4 * (_MANY_ATTRIBUTES + 4) * _ROWS * n_users

    def scorer(self, items: Items) -> Scorer:
        """Return the function that scores `items` for users of whom nothing is known but their clicks."""
        scorer, unknown = self.profile_scorer(items), unknown_user(self._users)

        def scores(histories: sp.csr_array) -> Scores:
            return scorer(histories, unknown.take(np.zeros(histories.shape[0], np.intp)))

        return scores

    def profile_scorer(self, items: Items) -> ProfileScorer:
        """Return the function that scores `items` for users by their clicks and their features."""
        self.check_fitted()
        by_clicks, clicks = self.click_likeness(), self.clicks_of_nearest(items)
        everybody = np.bincount(self._clicks.indices, minlength=self.n_items)[items].astype(np.float32)
        prior, delta = self.config.prior_clicks, self.config.delta

        def block(histories: sp.csr_array, profiles: FeatureSet) -> Scores:
            similarities = Similarities(profiles, self._users, delta)
            equal = np.full(len(similarities), 1 / len(similarities))
            own = np.diff(histories.indptr)
            share = (own / (own + prior)).astype(np.float32)[:, None]
            alike = (1 - share) * mix(similarities, equal, order=1, rows_per_block=_ROWS)
            if own.any():
                alike += share * by_clicks(histories)
            return np.where((alike > 0).any(axis=1, keepdims=True), clicks(alike), everybody)

        def scores(histories: sp.csr_array, profiles: FeatureSet) -> Scores:
            every = np.arange(histories.shape[0])
            blocks = [block(histories[rows], profiles.take(every[rows])) for rows in self.blocks(len(every))]
            return np.concatenate([np.zeros((0, len(items)), np.float32), *blocks])

        return scores

    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return the clicks of the users, row by row, the number of items, and the features of the users."""
        return {**super().state(), **users_state(self._users)}

    @classmethod
    def from_state(cls, config: ProfileKNNConfig, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild the model; features of items are not needed."""
        model = super().from_state(config, state, features)
        model._users = users_of(state, model._clicks.shape[0])
        return model
