"""From the folds of an ablation to means, intervals and tests over users.

Notation used for shapes: m users tested on at least one fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.evaluation.significance import adjust_p_values, bootstrap_interval, paired_interval, paired_p_value
from coldray.tuning.ablation_result import Lift, ModeResult
from coldray.tuning.results import FoldMetrics

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
    baseline = per_user[names[0]]
    pairs = [(name, metric) for name in names[1:] for metric in compared]
    if not pairs:
        return {}
    raw = [paired_p_value(per_user[name][metric], baseline[metric]) for name, metric in pairs]
    adjusted = adjust_p_values(np.array(raw))
    lifts: dict[str, dict[str, Lift]] = {name: {} for name in names[1:]}
    for (name, metric), p_value, p_adjusted in zip(pairs, raw, adjusted, strict=True):
        ours, theirs = per_user[name][metric], baseline[metric]
        # Of the mean over all users, as the p-value is; bootstraps of a share of them would contradict it.
        low, high = paired_interval(ours, theirs, share=1.0, generator=np.random.default_rng(seed))
        difference = float(np.mean(ours - theirs))
        mean = float(theirs.mean())
        relative = difference / mean if mean > 0 else float("nan")
        lifts[name][metric] = Lift(difference, low, high, relative, float(p_value), float(p_adjusted))
    return lifts
