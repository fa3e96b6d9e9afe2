"""What a study tells those who watch it: the progress display, the tracking server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coldray.data.dataset import Dataset
from coldray.experiments.results import FoldMetrics, TrialResult
from coldray.experiments.search.shared_results import SharedStatus
from coldray.experiments.space import StudyConfig
from coldray.training.progress import TrainingListener, TrainingListeners, TrainingPlace


class StudyListener:
    """Receives every event of a study, in the driver; each method does nothing unless overridden."""

    def study_started(self, config: StudyConfig, dataset: Dataset, study_id: str, protocol: Mapping[str, str]) -> None:
        """Tell what will be searched, on what data and by what protocol."""

    def stage(self, message: str) -> None:
        """Tell that a step outside the trials began, such as reading data or testing the winner."""

    def advanced(self, step: str, done: int, total: int) -> None:
        """Tell how far a step such as a test is; it begins with 0 done."""

    def search_started(self, n_trials: int, n_splits: int, metric: str) -> None:
        """Tell that trials begin."""

    def trial_started(self, trial_id: str, number: int, config: Mapping[str, Any]) -> None:
        """Tell that a trial runs; `config` holds the searched parameters."""

    def trial_reported(self, trial_id: str, folds: Sequence[FoldMetrics]) -> None:
        """Tell that a trial has finished one more split."""

    def trial_ended(self, trial: TrialResult) -> None:
        """Tell that a trial finished, was pruned, or failed."""

    def shared(self, status: Sequence[SharedStatus]) -> None:
        """Tell which shared computations are running and which are done."""

    def training_of(self, place: TrainingPlace) -> TrainingListener:
        """Return who is to be told of a training that begins; a trial has been told to run by then."""
        return TrainingListener()

    def search_ended(self) -> None:
        """Tell that no trial is left."""


class Listeners(StudyListener):
    """Several listeners, told in order."""

    def __init__(self, *listeners: StudyListener) -> None:
        self.listeners = listeners

    def study_started(self, config: StudyConfig, dataset: Dataset, study_id: str, protocol: Mapping[str, str]) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.study_started(config, dataset, study_id, protocol)

    def stage(self, message: str) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.stage(message)

    def advanced(self, step: str, done: int, total: int) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.advanced(step, done, total)

    def search_started(self, n_trials: int, n_splits: int, metric: str) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.search_started(n_trials, n_splits, metric)

    def trial_started(self, trial_id: str, number: int, config: Mapping[str, Any]) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.trial_started(trial_id, number, config)

    def trial_reported(self, trial_id: str, folds: Sequence[FoldMetrics]) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.trial_reported(trial_id, folds)

    def trial_ended(self, trial: TrialResult) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.trial_ended(trial)

    def shared(self, status: Sequence[SharedStatus]) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.shared(status)

    def training_of(self, place: TrainingPlace) -> TrainingListener:
        """Return all that are to be told."""
        return TrainingListeners(*(listener.training_of(place) for listener in self.listeners))

    def search_ended(self) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.search_ended()
