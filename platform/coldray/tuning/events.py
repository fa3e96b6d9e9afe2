"""Ray Tune's events, turned into results and passed on to those who watch a study."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from coldray.errors import ConfigError
from coldray.models.registry import model_type
from coldray.tuning.listeners import StudyListener
from coldray.tuning.record import trial_key
from coldray.tuning.results import FoldMetrics, TrialResult, TrialStatus


class TuneEvents(tune.Callback):
    """Turns Ray Tune's events into ours and keeps the results."""

    def __init__(
        self,
        listener: StudyListener,
        searched: tuple[str, ...],
        model: str,
        n_splits: int,
        ended: Mapping[int, TrialResult] | None = None,
    ) -> None:
        self.listener, self.searched, self.model = listener, searched, model_type(model)
        self.n_splits = n_splits
        self.started: dict[str, float] = {}
        self.ended = dict(ended or {})
        """The trials that have ended, in this process or before, by number."""
        self.failure: Exception | None = None
        """What a listener raised, such as that the disk is full."""

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune saves its callbacks beside the search; whoever watches (a terminal, a server) is not part of it.
        return {**self.__dict__, "listener": StudyListener()}

    @contextmanager
    def _heeded(self) -> Iterator[None]:
        """Keep what a listener raises, for the search to stop and raise it: Ray Tune would wrap it."""
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tell that a trial starts; one that is tried again after its worker was lost has been told before."""
        if trial.trial_id not in self.started:
            self.started[trial.trial_id] = time.perf_counter()
            with self._heeded():
                self.listener.trial_started(self._key(trial), trial.config["number"], self._shown(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Pass on one more split."""
        with self._heeded():
            self.listener.trial_reported(self._key(trial), _folds(result))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Keep a trial that ran to its end or was stopped early."""
        self._end(trial, trial.last_result.get("error"), lost=False)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Keep a trial whose worker failed, more often than it may be tried again."""
        self._end(trial, _failure(trial), lost=True)

    def _end(self, trial: Trial, error: str | None, *, lost: bool) -> None:
        folds, number = _folds(trial.last_result), trial.config["number"]
        if number in self.ended:
            return
        status: TrialStatus = "failed" if error else "finished" if len(folds) >= self.n_splits else "pruned"
        seconds = time.perf_counter() - self.started.get(trial.trial_id, time.perf_counter())
        config = self._complete(trial.config["parameters"])
        told = f"{error} ({_written(self._shown(trial))})" if error else None
        self.ended[number] = TrialResult(self._key(trial), number, config, folds, status, told, seconds, lost)
        with self._heeded():
            self.listener.trial_ended(self.ended[number])

    def _shown(self, trial: Trial) -> dict[str, Any]:
        return {name: trial.config["parameters"][name] for name in self.searched}

    def _key(self, trial: Trial) -> str:
        return trial_key(trial.config["number"], self._shown(trial))

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
