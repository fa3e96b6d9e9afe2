"""What the tests of a comparison say: every entry with its intervals, and its differences to the others.

Values of lists are paired user by user. Errors of predicted ratings are of all ratings together, so that users with
many weigh more, and the users are what is drawn; a user of several splits is one.

Notation used for shapes: e users tested on a fold, m users tested on at least one fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coldray.core.errors import StudyError
from coldray.evaluation.metrics import RankingMetrics
from coldray.evaluation.ratings import RATING_METRICS, RatingMetrics
from coldray.evaluation.significance import bootstrap_interval
from coldray.experiments.ablation.statistics import Values, mean_by_user, paired_lifts
from coldray.experiments.comparison.config import Entry, VectorsEntry
from coldray.experiments.comparison.result import EntryResult
from coldray.experiments.inspection.measure import Inspection
from coldray.experiments.results import StudyResult


@dataclass(frozen=True, eq=False)
class TestedEntry:
    """An entry after its one test."""

    entry: Entry | VectorsEntry
    study: StudyResult
    attributes: Mapping[str, str]
    """How each attribute was encoded, by name."""
    measured: tuple[RankingMetrics, ...]
    """The values of every user, fold by fold."""
    seconds: float
    inspections: tuple[Inspection, ...] = ()
    """What else was measured, fold by fold."""

    __test__ = False  # no class of tests, whatever its name says to pytest


def entry_results(
    tested: Sequence[TestedEntry], baseline: str, metric: str, cutoffs: Sequence[int], seed: int
) -> tuple[EntryResult, ...]:
    """Return every entry with its intervals, and its differences to the baseline and to its rival.

    Parameters
    ----------
    baseline
        Name of the entry that all are compared with, as far as it was tested.
    metric
        Validation metric by which rivals are known: no test value decides what is compared.
    cutoffs
        HR and NDCG are compared at each, and `metric`; where that is of predicted ratings, RMSE and MAE in their place.
        All comparisons are corrected for together.
    seed
        Of the bootstraps.

    Raises
    ------
    StudyError
        If two entries were not tested on the same users.
    """
    _check_same_users(tested)
    per_user = {one.entry.name: _values_by_user(one.measured) for one in tested}
    rated = _ratings_by_user(tested)
    if metric in RATING_METRICS:
        compared = list(dict.fromkeys((metric, "rmse", "mae")))
    else:
        wanted = [metric, *(f"{base}@{k}" for k in cutoffs for base in ("hr", "ndcg"))]
        compared = [name for name in dict.fromkeys(wanted) if all(name in values for values in per_user.values())]
    rivals = {one.entry.name: _rival(one, tested, metric) for one in tested}
    held = [(name, baseline) for name in per_user if baseline in per_user and name != baseline]
    pairs = [*held, *((name, rival) for name, rival in rivals.items() if rival is not None)]
    lifts = paired_lifts(per_user, list(dict.fromkeys(pairs)), compared, seed, rated)
    return tuple(
        EntryResult(
            name=(name := one.entry.name),
            track=one.entry.track,
            study=one.study,
            attributes=one.attributes,
            per_user=per_user[name],
            intervals={
                **{
                    key: bootstrap_interval(values, generator=np.random.default_rng(seed))
                    for key, values in per_user[name].items()
                },
                **(rated[name].intervals(np.random.default_rng(seed)) if name in rated else {}),
            },
            over_baseline=lifts.get((name, baseline), {}),
            rival=rivals[name],
            over_rival=lifts.get((name, rivals[name] or ""), {}),
            seconds=one.seconds,
            inspections=one.inspections,
        )
        for one in tested
    )


def _values_by_user(measured: Sequence[RankingMetrics]) -> dict[str, Values]:
    """Return by metric each user's mean over the folds that tested it ``[m]``, users in ascending order."""
    return {
        name: mean_by_user([(of_fold.users, of_fold.per_user[name]) for of_fold in measured])
        for name in measured[0].per_user
    }


def _ratings_by_user(tested: Sequence[TestedEntry]) -> dict[str, RatingMetrics]:
    """Return by entry the errors of its predicted ratings over all folds, each user once; of those that predict any."""
    found = {}
    for one in tested:
        folds = [of_fold.ratings for of_fold in one.measured if of_fold.ratings is not None]
        if folds:
            found[one.entry.name] = RatingMetrics.of_all(folds).by_user()
    return found


def _check_same_users(tested: Sequence[TestedEntry]) -> None:
    """Refuse to pair values of different users.

    Raises
    ------
    StudyError
        Naming the entries and the fold.
    """
    first = tested[0]
    for one in tested[1:]:
        if len(one.measured) != len(first.measured):
            raise StudyError(
                f"{one.entry.name} was tested on {len(one.measured)} folds, {first.entry.name} on "
                f"{len(first.measured)}; only the same folds can be compared."
            )
        for fold, ours, theirs in zip(first.study.test, one.measured, first.measured, strict=True):
            if not np.array_equal(ours.users, theirs.users) or not _same_ratings(ours, theirs):
                raise StudyError(
                    f"{one.entry.name} and {first.entry.name} were tested on different users of seed {fold.seed} / "
                    f"split {fold.split}; only values of the same users can be paired."
                )


def _same_ratings(ours: RankingMetrics, theirs: RankingMetrics) -> bool:
    """Tell whether two that predict ratings predicted as many of the same users."""
    if ours.ratings is None or theirs.ratings is None:
        return True
    one, other = ours.ratings, theirs.ratings
    return np.array_equal(one.users, other.users) and np.array_equal(one.counts, other.counts)


def _rival(one: TestedEntry, tested: Sequence[TestedEntry], metric: str) -> str | None:
    """Return the best other entry of the track on validation data, the first of equals."""
    others = [other for other in tested if other.entry.track == one.entry.track and other is not one]
    best = max(others, key=lambda other: other.study.selection.winner.quality(metric), default=None)
    return None if best is None else best.entry.name
