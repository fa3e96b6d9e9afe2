"""KernelAlign over users: the learned kernel with users in the place of items.

A user who has just arrived is to the other users what a new item is to the other items: known by attributes, without a
click. All of :mod:`~coldray.models.kernel_align.model` therefore holds for the transposed clicks: the covariance of
users is learned from their attributes, a newcomer's column of weights on the others is its conditional mean, and with
clicks it goes over to the ridge regression of these on those of the others
(:mod:`~coldray.models.kernel_align.warming`)::

    S = (X_wᵀ (κ/(n + κ) m + d̄ P X_w x))ᵀ

with the clicks ``X_w [W, I]`` of the users who had some in the fit, a user's own clicks ``x``, n of them, and m their
conditional mean. Every user is scored as a newcomer, by their profile and their clicks, whether the fit knew them or
not. What multiplies all scores of one item in KernelAlign would multiply all those of one user here and is left out:
predicted popularity, the weight of new ones, and what those who clicked tell.

Notation used for shapes: U users, W users with clicks, I items, b users in a block, n items asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, ProfileScorer, Recommender, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.kernel_align.config import KernelAlignConfig
from coldray.models.kernel_align.model import KernelAlign
from coldray.models.state import unknown_user, users_of, users_state
from coldray.training.options import FitOptions


class KernelAlignUsersConfig(ModelConfig):
    """Parameters of :class:`KernelAlignUsers`: those of KernelAlign, for users."""

    alpha: NonNegativeFloat = Field(default=0.2, le=2)
    """α, how far users of many clicks are damped in the smoothing over items."""
    ridge: PositiveFloat = 6.0
    """λ of the smoothing over items, in units of the mean diagonal of A."""
    click_ridge: PositiveFloat = 100.0
    """λ of a user's own clicks, in units of the mean number of them."""
    prior_clicks: PositiveFloat = 0.003
    """κ, clicks that say as much of a user as their attributes, in units of the mean number."""
    n_factors: PositiveInt = 64
    """Dimensions of the profiles that the covariance is learned from; fewer where there are fewer users or items."""
    subset: PositiveInt = 900
    """Users the covariance is learned on; all with clicks are inverted."""
    steps: PositiveInt = 40
    """Steps of Adam."""
    min_noise: PositiveFloat = 1e-3
    """Floor of σ² while the covariance is learned."""
    noise_factor: PositiveFloat = 1.0
    """What σ² is multiplied by once it is learned."""
    seed: NonNegativeInt = 0
    """Seed of the subset."""


class KernelAlignUsers(Recommender[KernelAlignUsersConfig]):
    """Users known by their attributes, and by their clicks more and more; items by clicks alone.

    A user of whom no attribute is known has what the constant part of the covariance says, the mean of all users.
    """

    name: ClassVar[str] = "kernel_align_users"
    config_type: ClassVar[type[ModelConfig]] = KernelAlignUsersConfig
    reads_users: ClassVar[bool] = True
    way_out: ClassVar[str] = "Use fewer users through the filters (min_user_interactions), or more memory."

    def __init__(self, config: KernelAlignUsersConfig | None = None) -> None:
        super().__init__(config or KernelAlignUsersConfig())
        self._kernel: KernelAlign | None = None
        self._clicks = sp.csr_array((0, 0), dtype=np.float32)
        self._unknown = FeatureSet({}, 1)

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Learn the covariance of users, invert it and smooth over items.

        Raises
        ------
        MissingFieldError
            If nothing is known of users but their clicks.
        SingularMatrixError, CatalogTooLargeError, ConfigError
            As :meth:`~coldray.models.kernel_align.model.KernelAlign.fit`, of users.
        """
        self.check_options(options)
        of_users = train.of_users
        self.check_size(*train.interactions.shape)
        self._kernel = KernelAlign(self._of_users(self.config)).fit(of_users, computations)
        self._clicks, self._unknown = of_users.interactions, unknown_user(of_users.features)
        return self

    @staticmethod
    def _of_users(config: KernelAlignUsersConfig) -> KernelAlignConfig:
        plain = {"form": "exact", "popularity": 0.0, "clickers": 0.0, "new_weight": 1.0}
        return KernelAlignConfig(**config.model_dump(), **plain)

    @property
    def n_items(self) -> int:
        """Number of items the fitted model knows; 0 before the fit."""
        return int(self._clicks.shape[0])

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what KernelAlign takes with users and items exchanged."""
        return KernelAlign(self._of_users(self.config)).memory_bytes(n_items, n_users)

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"The covariance of {n_users:,} users with its factor, and their weights,",
            way_out=self.way_out,
        )

    def scorer(self, items: Items) -> Scorer:
        """Return the function that scores `items` for users of whom nothing is known but their clicks."""
        scorer = self.profile_scorer(items)
        unknown = self._unknown

        def scores(histories: sp.csr_array) -> Scores:
            return scorer(histories, unknown.take(np.zeros(histories.shape[0], np.intp)))

        return scores

    def profile_scorer(self, items: Items) -> ProfileScorer:
        """Return the function that scores `items` for users by their clicks and their features."""
        self.check_fitted()
        kernel, clicks = self._fitted(), self._clicks
        n_users, rows = kernel.n_items, sp.csr_array(clicks[items])

        def scores(histories: sp.csr_array, profiles: FeatureSet) -> Scores:
            newcomers = np.arange(n_users, n_users + profiles.n_items)
            knowing, width = kernel.add_items(profiles), n_users + profiles.n_items
            clicked = np.unique(histories.indices)
            if len(clicked):
                own = sp.csr_array(sp.csr_array(histories.T)[clicked])
                known = sp.csr_array(sp.hstack([clicks[clicked], own], format="csr"))
                knowing = knowing.with_clicks_on(newcomers[np.diff(histories.indptr) > 0], known)
            reach = sp.csr_array((rows.data, rows.indices, rows.indptr), shape=(rows.shape[0], width))
            return np.ascontiguousarray(knowing.score(reach, newcomers).T)

        return scores

    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return the arrays of the kernel, the clicks by item, and the features of users."""
        self.check_fitted()
        kernel, clicks = self._fitted(), self._clicks
        arrays = {f"kernel.{name}": array for name, array in kernel.state().items()}
        arrays |= {"clicks.indices": clicks.indices, "clicks.indptr": clicks.indptr}
        return arrays | users_state(kernel.features)

    @classmethod
    def from_state(
        cls, config: KernelAlignUsersConfig, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet
    ) -> Self:
        """Rebuild the model; features of items are not needed."""
        model = cls(config)
        indptr, indices = state["clicks.indptr"], state["clicks.indices"]
        kernel = {key.removeprefix("kernel."): array for key, array in state.items() if key.startswith("kernel.")}
        n_users = len(kernel["warming.clicks"])
        users = users_of(state, n_users)
        model._kernel = KernelAlign.from_state(cls._of_users(config), kernel, users)
        ones = np.ones(len(indices), np.float32)
        model._clicks = sp.csr_array((ones, indices, indptr), shape=(len(indptr) - 1, n_users))
        model._unknown = unknown_user(users)
        return model

    def _fitted(self) -> KernelAlign:
        if self._kernel is None:  # pragma: no cover  check_fitted has raised
            raise AssertionError
        return self._kernel
