"""The ALS of implicit, with the user factors of a history solved for when it is asked for."""

from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.state import ArrayModel
from coldray.training.options import FitOptions


class ImplicitALSConfig(ModelConfig):
    """Parameters of :class:`ImplicitALS`; a study file searches them by these names."""

    n_factors: PositiveInt = 64
    """Length of the vectors of users and items."""
    regularization: PositiveFloat = 0.01
    """Weight of the squared factors."""
    alpha: PositiveFloat = 1.0
    """By how much more a click is trusted than its absence."""
    iterations: PositiveInt = 15
    """Times that both sides are solved for."""
    seed: NonNegativeInt = 0
    """Seed of the first factors."""


class ImplicitALS(ArrayModel[ImplicitALSConfig]):
    """Alternating least squares, as implicit fits it."""

    name: ClassVar[str] = "implicit_als"
    config_type: ClassVar[type[ModelConfig]] = ImplicitALSConfig
    item_array: ClassVar[str] = "factors"

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Learn the factors of items."""
        self.check_options(options)
        self.check_size(*train.interactions.shape)
        als = self._als()
        als.fit(sp.csr_matrix(train.interactions), show_progress=False)
        self._state = {"factors": als.item_factors}
        return self

    def _als(self) -> Any:
        config = self.config
        return AlternatingLeastSquares(
            factors=config.n_factors,
            regularization=config.regularization,
            alpha=config.alpha,
            iterations=config.iterations,
            num_threads=1,  # a trial has one CPU
            random_state=config.seed,
        )

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the factors take."""
        return 4 * self.config.n_factors * (n_users + n_items)

    def scorer(self, items: Items) -> Scorer:
        """Return the function that solves for the factors of users and multiplies them by those of `items`."""
        self.check_fitted()
        als, wanted = self._als(), self._state["factors"][items].T
        als.item_factors = self._state["factors"]

        def scores(histories: sp.csr_array) -> Scores:
            users = als.recalculate_user(np.arange(histories.shape[0]), sp.csr_matrix(histories))
            product: Scores = users @ wanted
            return product

        return scores
