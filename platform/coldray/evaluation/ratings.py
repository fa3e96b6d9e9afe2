"""How near predicted ratings are to those that users gave.

============  ======================================================================================
``rmse``      root of the mean squared error
``mae``       mean absolute error
``accuracy``  share of the predictions that are at most half a star from the truth
============  ======================================================================================

They are over *known items*: a held-out rating of an item that nobody rated in train is left out and counted, since
nothing but its user could be known. A user without a train rating stays in and is counted too: a model predicts them by
its fallback, what is known of the item. Every rating weighs the same, so users with many weigh more; a bootstrap draws
users all the same, as the ratings of one user are not independent.

Notation used for shapes: n held-out ratings of known items, e users who gave them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import ConfigError, EmptyDatasetError, NumericalError
from coldray.data.dataset import rows_of

_HALF_STAR = 0.5
"""How far an accurate prediction may be from the truth."""
_ERRORS = ("rmse", "mae")
"""Metrics of which less is better."""
RATING_METRICS = (*_ERRORS, "accuracy")

Doubles: TypeAlias = npt.NDArray[np.float64]
Predict: TypeAlias = Callable[[sp.csr_array, npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[np.float32]]
"""From histories ``[U, I]``, rows and items to predicted ratings."""


def is_error(metric: str) -> bool:
    """Tell a metric of which less is better."""
    return metric in _ERRORS


def ones_where_stored(matrix: sp.csr_array) -> sp.csr_array:
    """Return float32 ones where `matrix` stores a value: a rating of 0 is an interaction too."""
    return sp.csr_array((np.ones(matrix.nnz, np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)


@dataclass(frozen=True, eq=False)
class RatingMetrics:
    """The errors of a model, summed by user."""

    squared: Doubles
    """Sum of squared errors of each user ``[e]``."""
    absolute: Doubles
    """Sum of absolute errors of each user ``[e]``."""
    accurate: Doubles
    """Accurate predictions of each user ``[e]``."""
    counts: Doubles
    """Predictions of each user ``[e]``, at least 1."""
    users: npt.NDArray[np.int64]
    """Whose they are ``[e]``: rows of the held-out ratings."""
    n_unknown_items: int = 0
    """Held-out ratings left out, as nobody rated their item in train."""
    n_unknown_users: int = 0
    """Held-out ratings of known items by users without a known rating."""

    def means(self) -> dict[str, float]:
        """Return each measure over all predictions."""
        return self._over(slice(None))

    def intervals(
        self, generator: np.random.Generator, *, draws: int = 500, share: float = 0.2, level: float = 0.95
    ) -> dict[str, tuple[float, float]]:
        """Return the percentile interval of each measure over bootstraps of a share of the users.

        Parameters
        ----------
        generator, draws, share, level
            As for :func:`~coldray.evaluation.significance.bootstrap_interval`.
        """
        n_users = len(self.counts)
        size = max(1, round(share * n_users))
        drawn = [self._over(generator.integers(n_users, size=size)) for _ in range(draws)]
        ends = [(1 - level) / 2, (1 + level) / 2]
        found = {name: np.quantile([means[name] for means in drawn], ends) for name in RATING_METRICS}
        return {name: (float(low), float(high)) for name, (low, high) in found.items()}

    def paired_interval(
        self,
        other: RatingMetrics,
        metric: str,
        generator: np.random.Generator,
        *,
        draws: int = 500,
        level: float = 0.95,
    ) -> tuple[float, float]:
        """Return the interval of how much `metric` of this differs from that of `other`, over bootstraps of the users.

        Both are of the same users in the same order, and each bootstrap draws the same ones for both.

        Raises
        ------
        ConfigError
            If they are not of as many ratings of as many users.
        """
        if not np.array_equal(self.counts, other.counts):
            raise ConfigError("Errors of other ratings cannot be paired: both must predict the same ones.")
        n_users = len(self.counts)
        drawn = [generator.integers(n_users, size=n_users) for _ in range(draws)]
        differences = [self._over(users)[metric] - other._over(users)[metric] for users in drawn]
        low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    @classmethod
    def of_all(cls, folds: Sequence[RatingMetrics]) -> Self:
        """Return the metrics over all folds; a user of two counts as two."""
        return cls(
            np.concatenate([fold.squared for fold in folds]),
            np.concatenate([fold.absolute for fold in folds]),
            np.concatenate([fold.accurate for fold in folds]),
            np.concatenate([fold.counts for fold in folds]),
            np.concatenate([fold.users for fold in folds]),
            n_unknown_items=sum(fold.n_unknown_items for fold in folds),
            n_unknown_users=sum(fold.n_unknown_users for fold in folds),
        )

    def by_user(self) -> Self:
        """Return the metrics with a user of several folds as one, users in ascending order: their folds depend."""
        users, places = np.unique(self.users, return_inverse=True)

        def summed(of_folds: Doubles) -> Doubles:
            return np.bincount(places, weights=of_folds).astype(np.float64, copy=False)

        return replace(
            self,
            squared=summed(self.squared),
            absolute=summed(self.absolute),
            accurate=summed(self.accurate),
            counts=summed(self.counts),
            users=users,
        )

    def sums(self, metric: str) -> Doubles:
        """Return what `metric` is computed from ``[e]``: squared or absolute errors, or accurate predictions.

        Of the same ratings, two models have the same metric if, and only if, these differ by 0 in the mean.
        """
        return {"rmse": self.squared, "mae": self.absolute, "accuracy": self.accurate}[metric]

    def _over(self, users: slice | npt.NDArray[np.int64]) -> dict[str, float]:
        total = self.counts[users].sum()
        return {
            "rmse": float(np.sqrt(self.squared[users].sum() / total)),
            "mae": float(self.absolute[users].sum() / total),
            "accuracy": float(self.accurate[users].sum() / total),
        }


def rating_metrics(
    predict: Predict, *, train: sp.csr_array, histories: sp.csr_array, held_out: sp.csr_array
) -> RatingMetrics:
    """Measure predictions of the held-out ratings.

    Parameters
    ----------
    predict
        As :meth:`~coldray.models.base.Recommender.predict_ratings`.
    train
        Ratings the model was fitted on, CSR ``[U, I]``: they say which items are known.
    histories
        Ratings that describe the users, CSR ``[U, I]``.
    held_out
        Ratings to be predicted, CSR ``[U, I]``; every stored entry is one.

    Raises
    ------
    EmptyDatasetError
        If no held-out rating is of a known item.
    NumericalError
        If a prediction is not finite.
    """
    known = np.bincount(train.indices, minlength=train.shape[1]) > 0
    kept = known[held_out.indices]
    if not kept.any():
        raise EmptyDatasetError(
            f"None of {held_out.nnz:,} held-out ratings is of an item that was rated in train, so no error can be "
            "measured. Hold out less, or use another protocol."
        )
    rows = rows_of(held_out)[kept]
    predicted = predict(histories, rows, held_out.indices[kept]).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(predicted))
    if len(bad):
        raise NumericalError(
            f"{len(bad):,} of {len(predicted):,} predicted ratings are not finite, row {rows[bad[0]]}."
        )
    distances = np.abs(predicted - held_out.data[kept])
    users, places = np.unique(rows, return_inverse=True)

    def by_user(values: npt.NDArray[Any]) -> Doubles:
        return np.bincount(places, weights=values, minlength=len(users)).astype(np.float64, copy=False)

    return RatingMetrics(
        by_user(distances**2),
        by_user(distances),
        by_user(distances <= _HALF_STAR),
        by_user(np.ones(len(rows))),
        users.astype(np.int64),
        n_unknown_items=int(np.count_nonzero(~kept)),
        n_unknown_users=int(np.count_nonzero(np.diff(histories.indptr)[rows] == 0)),
    )
