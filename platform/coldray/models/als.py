"""ALS: factors of users and items by alternating least squares on implicit feedback.

``Σ_ui c_ui (p_ui − x_uᵀy_i)² + λ (Σ_u ‖x_u‖² + Σ_i ‖y_i‖²)`` over *all* users u and items i, with the preference
p_ui = 1 for a click and 0 otherwise and the confidence ``c_ui = 1 + α r_ui`` (Hu, Koren and Volinsky, *Collaborative
Filtering for Implicit Feedback Datasets*, 2008, Eq. 3). Each iteration solves for the users with the items fixed, then
for the items with the users fixed (:mod:`~coldray.models.weighted_ridge`), and neither raises the objective.

No factors of users are kept. A history is folded in when a list is asked for: its ridge regression on the factors of
items is solved exactly, so a user the fit never saw is served like all others.

An item without clicks has the factors 0, and scores 0.

Notation used for shapes: U users, I items, n items asked for, f factors.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from coldray.errors import NumericalError
from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.memory import require_memory
from coldray.models.base import Items, ModelConfig, Recommender, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.factor_count import most_factors, warn_of_reduced
from coldray.models.weighted_ridge import BLOCK_FLOATS, Matrix, WeightedRidge

logger = logging.getLogger(__name__)
Arrays = dict[str, npt.NDArray[Any]]
START_SCALE = 0.01
"""Standard deviation of the first factors of items."""
VANISHED = 1e-4
"""Entries of factors below this explain nothing: factors of 0 are the best where the regularization is strong."""


class ALSConfig(ModelConfig):
    """Parameters of :class:`ALS`."""

    n_factors: PositiveInt = 64
    """f; fewer where there are fewer users or items with clicks."""
    regularization: PositiveFloat = 50.0
    """λ."""
    alpha: PositiveFloat = 3.0
    """α, by how much more a click is trusted than its absence."""
    iterations: PositiveInt = 10
    """Times that the factors of users, and then those of items, are solved for."""
    cg_steps: NonNegativeInt = 3
    """Steps of conjugate gradients, from the factors of the iteration before, by which each system is solved; 0 solves
    by Cholesky, which takes longer the more factors there are."""
    start_seed: NonNegativeInt = 0
    """Seed of the first factors of items."""


class ALS(Recommender[ALSConfig]):
    """Alternating least squares, weighted by confidence."""

    name: ClassVar[str] = "als"
    config_type: ClassVar[type[ModelConfig]] = ALSConfig

    def __init__(self, config: ALSConfig | None = None) -> None:
        super().__init__(config or ALSConfig())
        self._state: Arrays = {}

    def fit(self, train: TrainingSet, computations: Computations | None = None) -> Self:
        """Learn the factors of items; the same on the same number of threads.

        More factors than the clicks can have are reduced, with a warning; the state tells how many are used.

        Raises
        ------
        DataError
            If fewer than two users or two items have clicks.
        SingularMatrixError
            If a system is not positive definite to working precision.
        NumericalError
            If the objective is not finite.
        CatalogTooLargeError
            If the factors do not fit in memory.
        """
        config = self.config
        used = min(config.n_factors, most_factors(train))
        warn_of_reduced(self.name, config.n_factors, used, train)
        self.check_size(*train.interactions.shape)
        items = np.zeros((train.interactions.shape[1], used), np.float32)
        generator = np.random.default_rng(config.start_seed)
        items[train.warm_items] = generator.normal(0, START_SCALE, (len(train.warm_items), used))
        items, objective = self._alternate(train, items)
        if np.abs(items).max() < VANISHED:
            logger.warning(
                "als: with regularization %g and alpha %g the factors of %s vanish, and scores are next to 0. "
                "Lower regularization, or raise alpha.",
                *(config.regularization, config.alpha, train.key),
            )
        self._state = {"factors": items, "objective": objective, "n_factors": np.array([used])}
        return self

    def _alternate(self, train: TrainingSet, items: Matrix) -> tuple[Matrix, npt.NDArray[np.float64]]:
        """Return the factors of items after all iterations, and the objective after each."""
        config, steps = self.config, self.config.cg_steps
        by_user = sp.csr_array(train.interactions, dtype=np.float32)
        by_item = sp.csr_array(by_user.T)
        users = np.zeros((by_user.shape[0], items.shape[1]), np.float32)
        objective = np.empty(config.iterations)
        for iteration in range(config.iterations):
            users = self._ridge(items).solve(by_user, start=users, steps=steps).rows
            solved = self._ridge(users).solve(by_item, start=items, steps=steps)
            items = solved.rows
            penalty = config.regularization * float(np.square(users, dtype=np.float64).sum())
            objective[iteration] = solved.objective + penalty
            if not np.isfinite(objective[iteration]):
                raise NumericalError(
                    f"The objective is {objective[iteration]} after {iteration + 1} iterations with alpha "
                    f"{config.alpha:g} and regularization {config.regularization:g}. Lower alpha, or raise "
                    "regularization."
                )
        return items, objective

    def _ridge(self, factors: Matrix) -> WeightedRidge:
        return WeightedRidge(factors, alpha=self.config.alpha, regularization=self.config.regularization)

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check the factors, the clicks by user and by item, and the block of the longest possible row."""
        factors = min(self.config.n_factors, n_users, n_items)
        block = 2 * max(BLOCK_FLOATS, factors * max(n_users, n_items, factors))
        require_memory(
            4 * (3 * factors * (n_users + n_items) + 2 * block),
            purpose=f"{factors:,} factors of {n_users:,} users and {n_items:,} items",
            way_out="Use fewer n_factors, or fewer users or items through the filters.",
        )

    @property
    def n_items(self) -> int:
        """Number of items the fitted model knows; 0 before the fit."""
        return len(self._state["factors"]) if self._state else 0

    @property
    def n_factors(self) -> int:
        """Factors that are used; 0 before the fit."""
        return int(self._state["n_factors"][0]) if self._state else 0

    @property
    def objective(self) -> npt.NDArray[np.float64]:
        """The objective after each iteration of the fit, float64; it never rises but by rounding."""
        self.check_fitted()
        return self._state["objective"]

    def scorer(self, items: Items) -> Scorer:
        """Return the function that folds histories in and multiplies by the factors of `items`."""
        self.check_fitted()
        factors = self._state["factors"]
        ridge, wanted = self._ridge(factors), factors[items].T

        def scores(histories: sp.csr_array) -> Scores:
            return np.asarray(ridge.solve(histories).rows @ wanted, np.float32)

        return scores

    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return the factors of all items, their number, and the objective after each iteration."""
        self.check_fitted()
        return self._state

    @classmethod
    def from_state(cls, config: ALSConfig, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild the model; the features are not needed."""
        model = cls(config)
        model._state = dict(state)
        return model
