"""Choosing the winner of a study on its validation metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from coldray.core.errors import SelectionError, StudyError
from coldray.experiments.results import Selection, TrialResult
from coldray.experiments.space import Preference, SelectionConfig


def select(trials: Sequence[TrialResult], config: SelectionConfig) -> Selection:
    """Return the simplest trial among those within the tolerance of the best mean validation metric.

    The best mean is the highest one, that of an error such as ``rmse`` the lowest. Trials the rule finds equally simple
    are ordered by their mean, then by their number. Pruned and failed trials cannot win: their means are over fewer
    splits.

    Raises
    ------
    SelectionError
        If no trial finished; the message names the first failure.
    """
    finished = [trial for trial in trials if trial.status == "finished"]
    if not finished:
        failures = [trial for trial in trials if trial.error]
        cause = f" First failure: {failures[0].error}" if failures else ""
        raise SelectionError(f"None of the {len(trials)} trials finished, so there is nothing to select.{cause}")
    best = min(finished, key=lambda trial: (-trial.quality(config.metric), trial.number))
    floor = best.quality(config.metric) - config.tolerance * abs(best.quality(config.metric))
    within = [trial for trial in finished if trial.quality(config.metric) >= floor]

    def complexity(trial: TrialResult) -> tuple[Any, ...]:
        ranks = [
            _rank(trial.config.get(name), preference) for entry in config.simplest for name, preference in entry.items()
        ]
        return (*ranks, -trial.quality(config.metric), trial.number)

    within.sort(key=complexity)
    rule = tuple(
        f"{name}: {preference if isinstance(preference, str) else ' before '.join(map(str, preference))}"
        for entry in config.simplest
        for name, preference in entry.items()
    )
    return Selection(within[0], best, tuple(within), config.metric, config.tolerance, rule)


def _rank(value: Any, preference: Preference) -> float:
    if isinstance(preference, list):
        listed = [json.dumps(choice, sort_keys=True, default=str) for choice in preference]
        found = json.dumps(value, sort_keys=True, default=str)
        return listed.index(found) if found in listed else len(listed)
    if not isinstance(value, (int, float)):
        raise StudyError(f"The simplicity rule compares {value!r} as a number; list the values in order instead.")
    return value if preference == "low" else -value
