"""Ray Tune's events, turned into results and passed on to those who watch a study."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.tune.experiment import Trial

from coldray.core.errors import ConfigError
from coldray.experiments.listeners import StudyListener
from coldray.experiments.record.record import StudyRecord, trial_key
from coldray.experiments.results import FoldMetrics, TrialResult, TrialStatus
from coldray.experiments.space import StudyConfig
from coldray.training.cluster.mailbox import MAIL_SECONDS, Event
from coldray.training.progress import TrainingListener, TrainingPlace


class TuneEvents(tune.Callback):
    """Turns Ray Tune's events into ours and keeps the results."""

    def __init__(self, listener: StudyListener, config: StudyConfig, n_splits: int, record: StudyRecord) -> None:
        self.listener, self.searched, self.model = listener, config.searched, config.kind
        self.prunes, self.retries, self.n_splits = config.scheduler is not None, config.failures.retries, n_splits
        self.ended = dict(record.ended)
        """The trials that have ended, in this process or before, by number."""
        self.failure: Exception | None = None
        """What a listener raised, such as that the disk is full."""
        self.stopping = False
        """True once the search is to end before its time: trials that are at work come to no end then."""
        self.mailbox: ActorHandle[Any] | None = None
        """Holds what trainings tell."""
        self._untold: list[Event] = []
        """Of trials that no worker has been given yet: what they will ask for is computed ahead."""
        self._emptied = 0.0
        self._trainings: dict[TrainingPlace, TrainingListener] = {}
        self._given: dict[int, Mapping[str, Any]] = {}
        """All trials that workers were given, by number."""
        self._begun: set[int] = set()
        self._lost: Counter[int] = Counter()

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune saves its callbacks beside the search; whoever watches (a terminal, a server) is not part of it.
        return {**self.__dict__, "listener": StudyListener(), "mailbox": None, "_trainings": {}}

    @contextmanager
    def _heeded(self) -> Iterator[None]:
        """Keep what a listener raises, for the search to stop and raise it: Ray Tune would wrap it."""
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tell which trial a worker begins with."""
        self._given |= {one["number"]: one for one in trial.config["trials"]}
        self._begin_next(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Pass on what trainings tell, now and then."""
        if time.monotonic() - self._emptied > MAIL_SECONDS:
            self._deliver()

    def _deliver(self) -> None:
        """Pass on what trainings tell: each epoch is there before what it led to is reported."""
        if self.mailbox is None:
            return
        self._emptied = time.monotonic()
        with suppress(ray.exceptions.RayError):  # who watches is not who fails
            self._untold += ray.get(self.mailbox.take.remote())
        events, self._untold = self._untold, []
        for place, name, argument in events:
            if place.trial not in self._given:
                self._untold.append((place, name, argument))
            elif place.trial not in self.ended:
                self._begin(self._given[place.trial])
                with self._heeded():
                    if place not in self._trainings:
                        self._trainings[place] = self.listener.training_of(place)
                    getattr(self._trainings[place], name)(argument)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Pass on what trials have reached, and which of them have ended."""
        self._deliver()
        for told in result.get("trials", ()):
            one, folds = self._given[told["number"]], _folds(told)
            self._begin(one)
            with self._heeded():
                self.listener.trial_reported(self._key(one), folds)
            if told["ended"]:
                self._end(one, told)
        self._begin_next(trial)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Keep a trial that the scheduler stopped early."""
        self._deliver()
        for one in self._left(trial):
            if self.prunes and not self.stopping and self._told(trial, one):
                self._end(one, self._told(trial, one))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Keep the trial that a worker was at when it was lost, if it may not be tried again."""
        self._deliver()
        for one in self._left(trial)[:1]:
            self._lost[one["number"]] += 1
            if self._lost[one["number"]] > self.retries:
                self._end(one, {**self._told(trial, one), "error": _failure(trial)}, lost=True)

    @staticmethod
    def _told(trial: Trial, one: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a worker told of a trial at last; nothing if it had not come to it."""
        latest: list[dict[str, Any]] = (trial.last_result or {}).get("trials", [])
        return next((told for told in latest if told["number"] == one["number"]), {})

    def _left(self, trial: Trial) -> list[dict[str, Any]]:
        """Return the trials of a worker that have not ended."""
        return [one for one in trial.config["trials"] if one["number"] not in self.ended]

    def _begin_next(self, trial: Trial) -> None:
        for one in self._left(trial)[:1]:
            self._begin(one)

    def _begin(self, one: Mapping[str, Any]) -> None:
        """Tell that a trial starts; one that is tried again after its worker was lost has been told before."""
        if one["number"] not in self._begun:
            self._begun.add(one["number"])
            with self._heeded():
                self.listener.trial_started(self._key(one), one["number"], self._shown(one))

    def _end(self, one: Mapping[str, Any], told: Mapping[str, Any], *, lost: bool = False) -> None:
        folds, number, error = _folds(told), one["number"], told.get("error")
        if number in self.ended:
            return
        status: TrialStatus = "failed" if error else "finished" if len(folds) >= self.n_splits else "pruned"
        config, seconds = self._complete(one["parameters"]), told.get("seconds", 0.0)
        reason = f"{error} ({_written(self._shown(one))})" if error else None
        self.ended[number] = TrialResult(self._key(one), number, config, folds, status, reason, seconds, lost)
        with self._heeded():
            self.listener.trial_ended(self.ended[number])

    def _shown(self, one: Mapping[str, Any]) -> dict[str, Any]:
        return {name: one["parameters"][name] for name in self.searched}

    def _key(self, one: Mapping[str, Any]) -> str:
        return trial_key(one["number"], self._shown(one))

    def _complete(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the whole configuration, defaults included; what the model refuses is kept as it was asked."""
        kind = self.model.config_type
        try:
            return kind.model_validate(dict(parameters)).model_dump(mode="json")
        except (ConfigError, ValueError):
            return {**kind().model_dump(mode="json"), **parameters}


def _written(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items()) or "nothing is searched"


def _failure(trial: Trial) -> str:
    """Return in one line why a worker failed, from the file Ray has just written beside the trial.

    Ray's own accessor looks where that file is copied to later. An error of the trial's function is a traceback, whose
    last line says it; a lost worker is described, and the first line says it.
    """
    try:
        text = Path(trial.error_file or "").read_text(encoding="utf-8")
    except OSError:
        return "the worker was lost"
    latest = [line.strip() for line in text.rpartition("Failure # ")[2].splitlines()[1:] if line.strip()]
    if not latest:
        return "the worker was lost"
    return latest[-1] if any(line.startswith("File ") for line in latest) else latest[0]


def _folds(result: Mapping[str, Any]) -> tuple[FoldMetrics, ...]:
    return tuple(FoldMetrics(**fold) for fold in result.get("folds", ()))
