"""From the tests of several entries to means, intervals and paired differences over the same users.

Notation used for shapes: e users tested on a fold, m users tested on at least one fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coldray.core.errors import StudyError
from coldray.evaluation.metrics import RankingMetrics
from coldray.evaluation.significance import bootstrap_interval
from coldray.experiments.ablation.statistics import Values, mean_by_user, paired_lifts
from coldray.experiments.comparison.config import Entry
from coldray.experiments.comparison.result import EntryResult
from coldray.experiments.inspection.measure import Inspection
from coldray.experiments.results import StudyResult


@dataclass(frozen=True, eq=False)
class TestedEntry:
    """An entry after its one test."""

    entry: Entry
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
        HR and NDCG are compared at each, and `metric`; all comparisons are corrected for together.
    seed
        Of the bootstraps.

    Raises
    ------
    StudyError
        If two entries were not tested on the same users.
    """
    check_same_users(tested)
    per_user = {one.entry.name: values_by_user(one.measured) for one in tested}
    wanted = [metric, *(f"{base}@{k}" for k in cutoffs for base in ("hr", "ndcg"))]
    compared = [name for name in dict.fromkeys(wanted) if all(name in values for values in per_user.values())]
    rivals = {one.entry.name: _rival(one, tested, metric) for one in tested}
    held = [(name, baseline) for name in per_user if baseline in per_user and name != baseline]
    pairs = [*held, *((name, rival) for name, rival in rivals.items() if rival is not None)]
    lifts = paired_lifts(per_user, list(dict.fromkeys(pairs)), compared, seed)
    return tuple(
        EntryResult(
            name=(name := one.entry.name),
            track=one.entry.track,
            study=one.study,
            attributes=one.attributes,
            per_user=per_user[name],
            intervals={
                key: bootstrap_interval(values, generator=np.random.default_rng(seed))
                for key, values in per_user[name].items()
            },
            over_baseline=lifts.get((name, baseline), {}),
            rival=rivals[name],
            over_rival=lifts.get((name, rivals[name] or ""), {}),
            seconds=one.seconds,
            inspections=one.inspections,
        )
        for one in tested
    )


def values_by_user(measured: Sequence[RankingMetrics]) -> dict[str, Values]:
    """Return by metric each user's mean over the folds that tested it ``[m]``, users in ascending order."""
    return {
        name: mean_by_user([(of_fold.users, of_fold.per_user[name]) for of_fold in measured])
        for name in measured[0].per_user
    }


def check_same_users(tested: Sequence[TestedEntry]) -> None:
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
            if not np.array_equal(ours.users, theirs.users):
                raise StudyError(
                    f"{one.entry.name} and {first.entry.name} were tested on different users of seed {fold.seed} / "
                    f"split {fold.split}; only values of the same users can be paired."
                )


def _rival(one: TestedEntry, tested: Sequence[TestedEntry], metric: str) -> str | None:
    """Return the best other entry of the track on validation data, the first of equals."""
    others = [other for other in tested if other.entry.track == one.entry.track and other is not one]
    best = max(others, key=lambda other: other.study.selection.winner.mean(metric), default=None)
    return None if best is None else best.entry.name
