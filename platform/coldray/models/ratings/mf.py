"""MF: biased matrix factorisation of ratings.

A rating is predicted as ``r̂_ui = μ + b_u + b_i + p_uᵀq_i``, by the minimum of ``Σ_ui (r_ui − r̂_ui)² +
w (‖p_u‖² + ‖q_i‖²) + w′ (b_u² + b_i²)`` over all ratings (Koren, Bell and Volinsky, *Matrix Factorization Techniques
for Recommender Systems*, 2009, Eq. 5), found by Adam (:mod:`~coldray.models.ratings.mf_training`).

No factors of users are kept. A history is folded in when it is asked about: with the items fixed, the same objective is
a ridge regression of ``r_ui − μ − b_i`` on ``(1, q_i)`` with the penalties n_u w′ and n_u w of a user with n_u ratings.
It is solved exactly, so a user the fit never saw is served like all others; one without a rating is given
``μ + b_i``, and an item without one ``μ + b_u``.

Notation used for shapes: b rows of histories, I items, n items asked for, f factors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg.factor_count import usable_factors
from coldray.models.ratings.base import RatingModel, RatingScale
from coldray.models.ratings.mf_training import MFConfig, learn_factors
from coldray.models.ratings.ridge import BLOCK_FLOATS, Double, fold_in
from coldray.models.state import FactorModel
from coldray.models.transfer.similarity import arrays_under


class MF(RatingModel[MFConfig], FactorModel[MFConfig]):
    """Biased matrix factorisation."""

    name: ClassVar[str] = "mf"
    config_type: ClassVar[type[ModelConfig]] = MFConfig
    item_array: ClassVar[str] = "factors"

    def fit(self, train: TrainingSet, computations: Computations | None = None) -> Self:
        """Learn factors and biases of items.

        More factors than the ratings can have are reduced, with a warning; the state tells how many are used.

        Raises
        ------
        DataError
            If all ratings are the same, or fewer than two users or two items have ratings.
        DivergedError
            If the loss is not finite any more.
        CatalogTooLargeError
            If the factors do not fit in memory.
        """
        scale = RatingScale.of(train)
        used = usable_factors(self.name, self.config.n_factors, train)
        self.check_size(*train.interactions.shape)
        learned = learn_factors(train, n_factors=used, config=self.config)
        n_items, warm = train.interactions.shape[1], train.warm_items
        factors, biases = np.zeros((n_items, used), np.float32), np.zeros(n_items)
        factors[warm], biases[warm] = learned["factors"], learned["biases"]
        self._state = {
            **learned,
            "factors": factors,
            "biases": biases,
            "scale": scale.array(),
            "n_factors": np.array([used]),
        }
        return self

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what weights, gradients, averages, the best weights and a block of histories take."""
        factors = min(self.config.n_factors, n_users, n_items)
        return 5 * 4 * (factors + 1) * (n_users + n_items) + 2 * 8 * max(BLOCK_FLOATS, factors**2)

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"{min(self.config.n_factors, n_users, n_items):,} factors of {n_users:,} users and {n_items:,} "
            "items",
            way_out="Use fewer n_factors, or fewer users or items through the filters.",
        )

    @property
    def history(self) -> Mapping[str, Double]:
        """Mean squared error of the train ratings, and of the held-out ones, epoch by epoch."""
        self.check_fitted()
        return arrays_under("history.", self._state)

    def scorer(self, items: Items) -> Scorer:
        """Return the function that folds histories in and predicts their ratings of `items`."""
        self.check_fitted()
        mean, biases, factors = (self._state[name] for name in ("mean", "biases", "factors"))
        known = np.hstack([np.ones((len(factors), 1)), factors])
        wanted, offsets = known[items].T, mean + biases[items]

        def scores(histories: sp.csr_array) -> Scores:
            return np.asarray(self._folded(histories, known, mean + biases) @ wanted + offsets, np.float32)

        return scores

    def _folded(self, histories: sp.csr_array, known: Double, expected: Double) -> Double:
        """Return b_u and p_u of each row ``[b, 1 + f]``."""
        decays = np.array([self.config.bias_decay, *[self.config.weight_decay] * (known.shape[1] - 1)])
        counts: Any = np.diff(histories.indptr)
        rest = sp.csr_array(
            (histories.data - expected[histories.indices], histories.indices, histories.indptr), shape=histories.shape
        )
        return fold_in(rest, known, np.outer(counts, decays))
