"""How far a study is, from its record alone: another process may be at work on it, or none."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coldray.core.journal import Record
from coldray.evaluation.ratings import is_error


@dataclass(frozen=True)
class _StageTime:
    """What a stage took of the process that worked on the study, and the search of the workers too."""

    name: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class SearchState:
    """How far a search is."""

    study: str
    n_trials: int
    n_splits: int
    metric: str
    ended: Mapping[int, Mapping[str, Any]]
    """The results of trials that need not run again, by number."""
    parameters: Mapping[int, Mapping[str, Any]]
    """The searched ones of every trial that has started, by number."""
    running: Mapping[int, int]
    """Trials at work, and how many of their splits are done; empty when no process is at work."""
    lost: int
    """Trials whose workers were lost for good; a study that goes on runs them again."""
    processes: int
    """Processes that have worked on it: one more than there were interruptions."""
    finished: bool
    seconds_left: float | None
    """Estimated from the trials that this process has ended; None while there are none."""
    stages: Sequence[_StageTime] = field(default_factory=tuple)

    def count(self, status: str) -> int:
        """Return how many trials ended so: ``finished``, ``pruned`` or ``failed``."""
        return sum(trial["status"] == status for trial in self.ended.values())

    def best(self, count: int = 3) -> list[tuple[int, float, Mapping[str, Any]]]:
        """Return number, mean validation metric and searched parameters of the best finished trials."""
        means = [
            (
                number,
                sum(fold["metrics"][self.metric] for fold in trial["folds"]) / len(trial["folds"]),
                self.parameters.get(number, {}),
            )
            for number, trial in self.ended.items()
            if trial["status"] == "finished"
        ]
        sign = 1 if is_error(self.metric) else -1
        return sorted(means, key=lambda one: (sign * one[1], one[0]))[:count]


def search_state(records: Sequence[Record], *, working: bool, now: float | None = None) -> SearchState | None:
    """Return how far a search is; None if it has not begun.

    Parameters
    ----------
    records
        Of :class:`~coldray.experiments.record.record.StudyRecord`.
    working
        True if a process is at work on it.
    now
        Seconds since 1970.
    """
    begun = [record for record in records if record["event"] == "search_started"]
    if not begun:
        return None
    latest = begun[-1]
    ended: dict[int, Mapping[str, Any]] = {}
    lost = set()
    running: dict[int, int] = {}
    splits: dict[int, int] = {}
    parameters: dict[int, Mapping[str, Any]] = {}
    since = 0
    for record in records:
        event = record["event"]
        if event == "process":
            running, since = {}, 0
        elif event == "trial_started":
            running[record["trial"]] = splits.get(record["trial"], 0)
            parameters[record["trial"]] = record["parameters"]
        elif event == "split":
            splits[record["trial"]] = splits.get(record["trial"], 0) + 1
            running[record["trial"]] = splits[record["trial"]]
        elif event == "trial_ended":
            running.pop(record["trial"], None)
            if record["result"]["lost"]:
                lost.add(record["trial"])
            else:
                lost.discard(record["trial"])
                ended[record["trial"]] = record["result"]
            since += 1
    spent = (time.time() if now is None else now) - latest["time"]
    left = latest["trials"] - len(ended)
    return SearchState(
        study=latest["study"],
        n_trials=latest["trials"],
        n_splits=latest["splits"],
        metric=latest["metric"],
        ended=ended,
        parameters=parameters,
        running=running if working else {},
        lost=len(lost),
        processes=sum(record["event"] == "process" for record in records),
        finished=any(record["event"] == "finished" for record in records),
        seconds_left=left * spent / since if since and left and working else None,
        stages=[
            _StageTime(record["stage"], record["seconds"], record["cpu_seconds"], record["peak_bytes"])
            for record in records
            if record["event"] == "stage"
        ],
    )
