"""A regressor of scikit-learn over item attributes, which scores items that nobody has clicked.

The clicks give each warm item a vector by a truncated SVD; a ridge regression predicts it from the item's attributes.
A user's score of an item is ``Σ_j p_j · p_i`` over the items j of the history, p the predicted vectors of all items.

Notation used for shapes: I items, d columns of attributes, f factors, b users in a block, n items asked for.
"""

from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import Ridge

from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet, VectorFeature
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.state import ArrayModel
from coldray.training.options import FitOptions


class AttributeRegressionConfig(ModelConfig):
    """Parameters of :class:`AttributeRegression`; a study file searches them by these names."""

    n_factors: PositiveInt = 32
    """f, length of the vectors; fewer where there are fewer users or warm items."""
    regularization: PositiveFloat = 1.0
    """Weight of the squared coefficients of the regression."""
    seed: NonNegativeInt = 0
    """Seed of the SVD."""


class AttributeRegression(ArrayModel[AttributeRegressionConfig]):
    """Vectors of items, predicted from their attributes."""

    name: ClassVar[str] = "attribute_regression"
    config_type: ClassVar[type[ModelConfig]] = AttributeRegressionConfig
    item_array: ClassVar[str] = "vectors"
    scores_cold_items: ClassVar[bool] = True

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Learn how attributes give vectors, and give each item its own."""
        self.check_options(options)
        self.check_size(*train.interactions.shape)
        attributes, warm = _columns(train.features), train.warm_items
        clicks = sp.csr_array(train.interactions.T)[warm]
        factors = min(self.config.n_factors, *(size - 1 for size in clicks.shape))
        vectors = TruncatedSVD(factors, algorithm="arpack", random_state=self.config.seed).fit_transform(clicks)
        ridge = Ridge(self.config.regularization).fit(attributes[warm], vectors)
        self._state = {"coefficients": ridge.coef_.T, "intercept": ridge.intercept_}
        self._state["vectors"] = self._predicted(train.features)
        return self

    def _predicted(self, features: FeatureSet) -> npt.NDArray[np.float32]:
        """Return the vectors of items ``[I, f]``."""
        predicted = _columns(features) @ self._state["coefficients"] + self._state["intercept"]
        return np.asarray(predicted, np.float32)

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model that scores new items, too, from their attributes."""
        self.check_fitted()
        extended = type(self)(self.config)
        both = [self._state["vectors"], self._predicted(features)]
        extended._state = {**self._state, "vectors": np.concatenate(both)}
        return extended

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the vectors of both sides take."""
        return 8 * self.config.n_factors * (n_users + 2 * n_items)

    def scorer(self, items: Items) -> Scorer:
        """Return the function that adds up the vectors of a history and multiplies by those of `items`."""
        self.check_fitted()
        vectors = self._state["vectors"]
        wanted = vectors[items].T

        def scores(histories: sp.csr_array) -> Scores:
            product: Scores = (histories @ vectors) @ wanted
            return product

        return scores


def _columns(features: FeatureSet) -> sp.csr_array:
    """Return all attributes beside each other ``[I, d]``: labels and words as they are, numbers in units of their span.

    A number that is not known counts as 0.
    """
    parts = [
        feature.matrix if isinstance(feature, VectorFeature) else np.nan_to_num(feature.values / feature.span)[:, None]
        for feature in features.features.values()
    ]
    return sp.csr_array(sp.hstack([sp.csr_array(part) for part in parts], format="csr"))
