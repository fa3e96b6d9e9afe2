"""RatingSVD: the part of what a baseline leaves of the ratings that the leading singular vectors carry.

With E the residuals ``r_ui − b_ui`` of :mod:`~coldray.models.ratings.baseline`, 0 where there is no rating, and V the k
leading right singular vectors of E, ``r̂_ui = b_ui + (e_u V Vᵀ)_i``. A user is folded in by the projection of their
residuals, so one the fit never saw is served like all others. Ratings that are missing count as met by the baseline:
the projection is the smaller the fewer there are, which is why few factors do best here, unlike in
:mod:`~coldray.models.ratings.mf`.

Notation used for shapes: I items, n items asked for, k factors used, m of the decomposition.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
from pydantic import PositiveInt

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg.products import click_products
from coldray.models.linalg.singular import SingularVectors, most_factors, singular_vectors
from coldray.models.linear.singular_model import SingularConfig, SingularModel
from coldray.models.ratings.base import RatingModel, RatingScale
from coldray.models.ratings.baseline import BaselineConfig, RatingBaseline
from coldray.training.options import FitOptions


class RatingSVDConfig(SingularConfig, BaselineConfig):
    """Parameters of :class:`RatingSVD`."""

    n_factors: PositiveInt = 10


def residual_vectors(
    train: TrainingSet, *, n_factors: int, item_damping: float, user_damping: float
) -> SingularVectors:
    """Return the leading right singular vectors of what the baseline leaves, and the singular values.

    Parameters
    ----------
    n_factors
        m.
    item_damping, user_damping
        As in :class:`~coldray.models.ratings.baseline.BaselineConfig`.

    Returns
    -------
    SingularVectors
        As of :func:`~coldray.models.linalg.singular.singular_vectors`.
    """
    baseline = RatingBaseline.of(train, BaselineConfig(item_damping=item_damping, user_damping=user_damping))
    rest = TrainingSet(baseline.residuals(train.interactions), train.features, train.key)
    return singular_vectors(rest, n_factors=n_factors, alpha=0.0, centred=False)


class RatingSVD(RatingModel[RatingSVDConfig], SingularModel[RatingSVDConfig]):
    """Truncated singular value decomposition of ratings."""

    name: ClassVar[str] = "rating_svd"
    config_type: ClassVar[type[ModelConfig]] = RatingSVDConfig

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Decompose what the baseline leaves, or take the leading vectors of a decomposition that is shared.

        More factors than the ratings have are reduced to what there is, with a warning; the state tells how many.

        Raises
        ------
        DataError
            If all ratings are the same, or fewer than two users or two items have ratings.
        CatalogTooLargeError
            If the matrices do not fit in memory.
        """
        self.check_options(options)
        scale, config = RatingScale.of(train), self.config
        computed = self.n_computed(most_factors(train))
        dampings = {"item_damping": config.item_damping, "user_damping": config.user_damping}
        found = (computations or Computations()).get(residual_vectors, train, n_factors=computed, **dampings)
        self._state = {
            **RatingBaseline.of(train, config).arrays(),
            "scale": scale.array(),
            **self.leading(train, found),
        }
        return self

    def scorer(self, items: Items) -> Scorer:
        """Return the function that projects residuals and predicts ratings of `items`."""
        self.check_fitted()
        baseline, vectors = RatingBaseline.from_arrays(self._state), self._state["vectors"]
        expected, wanted = baseline.mean + baseline.items[items], vectors[items].T

        def scores(histories: sp.csr_array) -> Scores:
            moved = click_products(baseline.residuals(histories), vectors) @ wanted
            return np.asarray(expected + baseline.users(histories)[:, None] + moved, np.float32)

        return scores
