"""From folds to means, intervals and tests over users.

Notation used for shapes: m users tested on at least one fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.evaluation.ratings import RATING_METRICS, RatingMetrics
from coldray.evaluation.significance import adjust_p_values, bootstrap_interval, paired_interval, paired_p_value
from coldray.experiments.ablation.result import ModeResult
from coldray.experiments.results import FoldMetrics, Lift

CORRECTION = "Holm"
Values = npt.NDArray[np.float64]


def mean_by_user(folds: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> Values:
    """Return each user's mean over the folds that tested it ``[m]``, users in ascending order.

    A user of several folds is one observation: the folds of a user are not independent of each other.

    Parameters
    ----------
    folds
        Users and their values, for each fold.
    """
    users = np.concatenate([users for users, _ in folds])
    values = np.concatenate([values for _, values in folds])
    _, position = np.unique(users, return_inverse=True)
    means: Values = np.bincount(position, weights=values) / np.bincount(position)
    return means


def mode_results(
    configs: Mapping[str, Mapping[str, Any]],
    folds: Mapping[str, tuple[FoldMetrics, ...]],
    per_user: Mapping[str, Mapping[str, Values]],
    compared: Sequence[str],
    seed: int,
) -> tuple[ModeResult, ...]:
    """Return every mode with its intervals, and its lifts over the first one.

    Parameters
    ----------
    configs, folds, per_user
        By mode, the baseline first.
    compared
        Metrics whose lifts are tested; all comparisons are corrected for together.
    seed
        Of the bootstraps.
    """
    names = list(configs)
    lifts = _lifts(per_user, names, compared, seed)
    return tuple(
        ModeResult(
            name=name,
            config=configs[name],
            folds=folds[name],
            per_user=per_user[name],
            intervals={
                metric: bootstrap_interval(values, generator=np.random.default_rng(seed))
                for metric, values in per_user[name].items()
            },
            lifts=lifts.get(name, {}),
        )
        for name in names
    )


def _lifts(
    per_user: Mapping[str, Mapping[str, Values]], names: Sequence[str], compared: Sequence[str], seed: int
) -> dict[str, dict[str, Lift]]:
    found = paired_lifts(per_user, [(name, names[0]) for name in names[1:]], compared, seed)
    return {ours: lifts for (ours, _), lifts in found.items()}


def paired_lifts(
    per_user: Mapping[str, Mapping[str, Values]],
    pairs: Sequence[tuple[str, str]],
    compared: Sequence[str],
    seed: int,
    rated: Mapping[str, RatingMetrics] | None = None,
) -> dict[tuple[str, str], dict[str, Lift]]:
    """Return for each pair the lifts of the first over the second, metric by metric.

    All comparisons are corrected for together; a pair and its reverse are one comparison.

    Parameters
    ----------
    per_user
        Values ``[m]`` by name and metric, of the same users in the same order.
    pairs
        Names of those held against each other.
    compared
        Metrics.
    seed
        Of the bootstraps.
    rated
        By name the errors of predicted ratings, of the same ones in the same order, each user once; needed if one of
        the metrics is of them.
    """
    tests = list(dict.fromkeys((*sorted(pair), metric) for pair in pairs for metric in compared))
    if not tests:
        return {}
    values = {name: dict(of_lists) for name, of_lists in per_user.items()}
    for name, found in (rated or {}).items():
        values[name] |= {metric: found.sums(metric) for metric in RATING_METRICS}
    raw = [paired_p_value(values[one][metric], values[other][metric]) for one, other, metric in tests]
    adjusted = dict(zip(tests, zip(raw, adjust_p_values(np.array(raw)), strict=True), strict=True))

    def lift(ours: str, theirs: str, metric: str) -> Lift:
        p_values = adjusted[(*sorted((ours, theirs)), metric)]
        if rated is not None and metric in RATING_METRICS:
            return _lift_of_ratings(rated[ours], rated[theirs], metric, *p_values, seed)
        return _lift(per_user[ours][metric], per_user[theirs][metric], *p_values, seed)

    return {pair: {metric: lift(*pair, metric) for metric in compared} for pair in pairs}


def _lift(ours: Values, theirs: Values, p_value: float, p_adjusted: float, seed: int) -> Lift:
    # Of the mean over all users, as the p-value is; bootstraps of a share of them would contradict it.
    interval = paired_interval(ours, theirs, share=1.0, generator=np.random.default_rng(seed))
    return _told(float(np.mean(ours - theirs)), interval, float(theirs.mean()), p_value, p_adjusted)


def _lift_of_ratings(
    ours: RatingMetrics, theirs: RatingMetrics, metric: str, p_value: float, p_adjusted: float, seed: int
) -> Lift:
    interval = ours.paired_interval(theirs, metric, np.random.default_rng(seed))
    reached = theirs.means()[metric]
    return _told(ours.means()[metric] - reached, interval, reached, p_value, p_adjusted)


def _told(difference: float, interval: tuple[float, float], reached: float, p_value: float, p_adjusted: float) -> Lift:
    relative = difference / reached if reached > 0 else float("nan")
    return Lift(difference, *interval, relative, float(p_value), float(p_adjusted))
