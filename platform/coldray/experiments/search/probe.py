"""One fit before a study, to say how long the study may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate

from coldray.experiments.folds import prepare_task
from coldray.experiments.prepared import PreparedStudy
from coldray.experiments.search.proposals import Parameters, proposer
from coldray.experiments.tasks.measured import evaluate_fold
from coldray.models.computations import Computations, D, P, T
from coldray.training.progress import TrainingListener


@dataclass(frozen=True)
class Probe:
    """What the first configuration of a study took on its first split, on this machine."""

    parameters: Parameters
    shared: int
    """Results of its fit that other configurations may share."""
    preparing: float
    """Seconds until the split was ready."""
    sharing: float
    """Seconds of the shared results."""
    fitting: float
    """Seconds of the rest of the fit, and of measuring it."""

    def study_seconds(self, trials: int, splits: int, slots: int) -> float:
        """Return how long a study takes whose fits all take as long, with so many trials side by side.

        What is shared is computed once a split, and once more for the test, in which the winner is fitted on each
        split, and for its bundle.
        """
        fit = self.fitting + self.sharing
        searched = splits * (self.preparing + self.sharing + trials * self.fitting)
        return searched / slots + (splits + 1) * fit


class _TimedComputations(Computations):
    """Shared results, and how long they took."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds, self._inside = 0.0, False

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._results)

    def get(self, function: Callable[Concatenate[D, P], T], data: D, /, *args: P.args, **parameters: P.kwargs) -> T:
        """Return ``function(data, **parameters)``; one that another asks for is a part of it."""
        started, outermost = time.perf_counter(), not self._inside
        self._inside = True
        try:
            return super().get(function, data, *args, **parameters)
        finally:
            if outermost:
                self._inside = False
                self.seconds += time.perf_counter() - started


def probe_study(study: PreparedStudy, listener: TrainingListener | None = None) -> Probe:
    """Fit the first configuration of a study on the train part of its first split, and measure it on validation.

    It is fitted by one worker, however many the study asks for, and a `listener` hears of its trainings.

    Raises
    ------
    ColdrayError
        If it cannot be fitted, as the trial could not.
    """
    config, fold = study.config, study.tuning[0].fold
    started = time.perf_counter()
    task = prepare_task(
        fold,
        config.encoded_features,
        reads=config.reads,
        predicts=config.kind.predicts_ratings,
        users=config.splits.users,
        profiles=config.encoded_users,
        moments=config.encoded_moments,
        positives=config.positives,
    )
    ready = time.perf_counter()
    parameters, shared = proposer(config).propose(0), _TimedComputations()
    alone = config.fit.model_copy(update={"workers": 1}).options(listener)  # there is no cluster yet
    fitted = config.configured(parameters).fit(task.train, shared, alone)
    asked: dict[str, Any] = {"candidates": config.candidates, "cutoffs": config.cutoffs}
    evaluate_fold(fitted, task, **asked, computations=shared, options=alone)
    fitting = time.perf_counter() - ready - shared.seconds
    return Probe(parameters, shared.count, ready - started, shared.seconds, fitting)
