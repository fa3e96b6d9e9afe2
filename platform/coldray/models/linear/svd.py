"""SVD: scores are the part of a user's clicks that the leading singular vectors carry.

With X the clicks, ``D = diag((n_i + 5)^−α)`` and V the k leading right singular vectors of ``X D``, a history x has the
scores ``x D V Vᵀ D⁻¹``: its projection, in units of clicks. A user of the training set and one the fit never saw are
served alike, as no factors of users are kept (Cremonesi, Koren and Turrin, *Performance of recommender algorithms on
top-N recommendation tasks*, 2010, Eq. 7, for α = 0). Centred, the share μ of users who click an item is taken from each
column of X, and the scores are ``(x − μ) D V Vᵀ D⁻¹ + μ``.

An item without clicks scores 0.

Notation used for shapes: U users, W warm items, I all items, n items asked for, k factors used, m of the decomposition.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
from pydantic import Field, NonNegativeFloat

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.kernel_align.smoothing import damping_of
from coldray.models.linalg.products import click_products
from coldray.models.linalg.singular import most_factors, singular_vectors
from coldray.models.linear.singular_model import SingularConfig, SingularModel
from coldray.training.options import FitOptions


class SVDConfig(SingularConfig):
    """Parameters of :class:`SVD`."""

    alpha: NonNegativeFloat = Field(default=0.2, le=2)
    """α, how far popular items are damped in what is decomposed."""
    centred: bool = False
    """Whether each item's mean is taken from what is decomposed. An empty history then scores items by popularity."""


class SVD(SingularModel[SVDConfig]):
    """Truncated singular value decomposition of clicks."""

    name: ClassVar[str] = "svd"
    config_type: ClassVar[type[ModelConfig]] = SVDConfig

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Decompose the clicks, or take the leading vectors of a decomposition that is shared.

        More factors than the clicks have are reduced to what there is, with a warning; the state tells how many.

        Raises
        ------
        DataError
            If fewer than two users or two items have clicks.
        CatalogTooLargeError
            If the matrices do not fit in memory.
        """
        self.check_options(options)
        config = self.config
        computed = self.n_computed(most_factors(train))
        found = (computations or Computations()).get(
            singular_vectors, train, n_factors=computed, alpha=config.alpha, centred=config.centred
        )
        n_items = train.interactions.shape[1]
        damping, means = np.ones(n_items), np.zeros(n_items)
        damping[train.warm_items] = damping_of(train, config.alpha)
        if config.centred:
            means = train.clicks / train.interactions.shape[0]
        self._state = {
            **self.leading(train, found),
            "damping": damping.astype(np.float32),
            "means": means.astype(np.float32),
        }
        return self

    def scorer(self, items: Items) -> Scorer:
        """Return the function that projects histories and reads `items` off."""
        self.check_fitted()
        vectors, damping, means = (self._state[name] for name in ("vectors", "damping", "means"))
        onto = damping[:, None] * vectors  # [I, k]
        back = (vectors[items] / damping[items, None]).T  # [k, n]
        offset = means[items] - means @ onto @ back

        def scores(histories: sp.csr_array) -> Scores:
            return np.asarray(click_products(histories, onto) @ back + offset, np.float32)

        return scores
