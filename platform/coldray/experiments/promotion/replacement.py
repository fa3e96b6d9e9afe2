"""When a new version takes the champion's place: only by being no worse on the same test folds, user by user.

The rule. Both are fitted on the train part of the same splits and measured on the same test folds, by the metric that
chose the new one. The new version is *not worse* if the mean difference over the users is not below 0, or if its 95 %
interval rules out a loss of more than 1 %: what is as good as equal may be replaced, so that a model can be fitted
anew to fresh data, and what is probably worse may not. The interval is over bootstraps of all users, the same ones for
both (:mod:`~coldray.evaluation.significance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coldray.core.errors import StudyError
from coldray.evaluation.metrics import RankingMetrics
from coldray.evaluation.ratings import RatingMetrics, is_error
from coldray.evaluation.significance import paired_interval
from coldray.experiments.ablation.statistics import mean_by_user

_NEGLIGIBLE = 0.01
"""Loss, as a share of what the champion reaches, that does not make a version worse if a larger one is ruled out."""
_ROUNDING = 1e-9
"""Difference of two equal models that were summed in another order."""


@dataclass(frozen=True)
class Difference:
    """A new version against the champion, on the same test folds."""

    metric: str
    ours: float
    """What the new version reaches: the mean over users, or the error over all ratings."""
    theirs: float
    low: float | None
    """95 % interval of ``ours - theirs``; None of a metric without values of single users."""
    high: float | None
    n_users: int

    @property
    def not_worse(self) -> bool:
        """True by the rule of this module."""
        sign = -1 if is_error(self.metric) else 1
        if sign * (self.ours - self.theirs) >= -_ROUNDING:
            return True
        if self.low is None or self.high is None:
            return False
        worst = self.high if is_error(self.metric) else self.low
        return sign * worst >= -_NEGLIGIBLE * abs(self.theirs)

    @property
    def words(self) -> str:
        """The difference in words, with its interval."""
        between = (
            "no interval, as it is one number for all users"
            if self.low is None or self.high is None
            else f"95 % interval {self.low:+.4f} to {self.high:+.4f}, {self.n_users:,} users paired"
        )
        return (
            f"{self.metric} {self.ours:.4f} against {self.theirs:.4f} on the same test folds: "
            f"{self.ours - self.theirs:+.4f} ({between})"
        )


def held_against(
    metric: str, ours: Sequence[RankingMetrics], theirs: Sequence[RankingMetrics], seed: int
) -> Difference:
    """Return how a new version differs from the champion.

    Parameters
    ----------
    metric
        The one that chose the new version.
    ours, theirs
        The values of every user, fold by fold, of the same folds.
    seed
        Of the bootstraps.

    Raises
    ------
    StudyError
        If the two were not measured on the same users of the same folds.
    """
    if len(ours) != len(theirs) or not all(
        np.array_equal(one.users, other.users) for one, other in zip(ours, theirs, strict=True)
    ):
        raise StudyError("The champion was not measured on the same users; only values of the same users are paired.")
    generator = np.random.default_rng(seed)
    if all(metric in fold.per_user for fold in (*ours, *theirs)):
        a, b = (mean_by_user([(fold.users, fold.per_user[metric]) for fold in folds]) for folds in (ours, theirs))
        low, high = paired_interval(a, b, share=1.0, generator=generator)
        return Difference(metric, float(a.mean()), float(b.mean()), low, high, len(a))
    rated = [[fold.ratings for fold in folds if fold.ratings is not None] for folds in (ours, theirs)]
    if all(rated) and metric in rated[0][0].means():
        one, other = (RatingMetrics.of_all(folds) for folds in rated)
        low, high = one.paired_interval(other, metric, generator)
        return Difference(metric, one.means()[metric], other.means()[metric], low, high, len(one.counts))
    means = [float(np.mean([fold.means()[metric] for fold in folds])) for folds in (ours, theirs)]
    return Difference(metric, means[0], means[1], None, None, len(np.unique(np.concatenate([f.users for f in ours]))))
