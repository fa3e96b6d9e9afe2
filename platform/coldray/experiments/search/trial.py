"""Trials: configurations, each evaluated split after split on validation data, their epochs judged by a scheduler."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.actor import ActorHandle

from coldray.core.device import load_torch_aside
from coldray.core.errors import ColdrayError, NumericalError
from coldray.core.masking import masked
from coldray.core.memory import peak_bytes
from coldray.data.splits.items import fold_name
from coldray.experiments.evaluation import Candidates, EvaluationFold, RankingCache
from coldray.experiments.results import FoldMetrics, reached
from coldray.experiments.search.shared import ClusterComputations
from coldray.experiments.tasks.measured import evaluate_fold
from coldray.models.base import Recommender
from coldray.models.registry import model_type
from coldray.training.cluster.mailbox import Forwarding
from coldray.training.history import EpochRecord
from coldray.training.options import FitConfig, FitOptions
from coldray.training.progress import TrainingListener, TrainingListeners, TrainingPlace, TrainingPlan

_REPORT_SECONDS = 0.25
"""Shortest time between two reports of a worker with several trials: each costs the driver some milliseconds."""
FoldKey = tuple[int, int]
"""Seed and split."""


@dataclass(frozen=True)
class TrialPlan:
    """What all trials of a study have in common."""

    model: str
    candidates: Candidates
    cutoffs: tuple[int, ...]
    metric: str
    """The metric reported to search and scheduler."""
    study_id: str
    fit: FitConfig = FitConfig()
    """How the model is fitted."""
    by_epochs: bool = False
    """True if a scheduler judges the epochs of the first split."""
    checkpoints: Path | None = None
    """Where trainings keep their checkpoints until a split is done. A node that does not see it keeps none."""


def run_trials(
    batch: Mapping[str, Any],
    *,
    plan: TrialPlan,
    tasks: Mapping[FoldKey, ray.ObjectRef[Any]],
    results: ActorHandle[Any],
) -> None:
    """Evaluate configurations one after the other, and report what each reaches, split by split.

    A model that cannot be fitted fails its own trial alone: the reason is reported, the worker goes on.

    Parameters
    ----------
    batch
        Under ``trials`` as many as :class:`~coldray.experiments.search.proposals.Proposals` gave this worker.
    """
    load_torch_aside()  # lists are made with it, once what trials share is there
    # A scheduler, which has to see each split of a trial, gives them one by one.
    reports = _Reports(plan.metric, _REPORT_SECONDS if len(batch["trials"]) > 1 else 0.0)
    for trial in batch["trials"]:
        _run(trial, plan, tasks, results, reports)
    reports.send()


class _Reports:
    """What trials have reached, told to Ray Tune together where they are quick.

    Parameters
    ----------
    metric
        The metric that search and scheduler go by; they are told its mean over the splits of the latest trial.
    interval
        Seconds between two reports; 0 reports at once.
    """

    def __init__(self, metric: str, interval: float) -> None:
        self._metric, self._interval, self._sent = metric, interval, float("-inf")
        self._waiting: dict[int, dict[str, Any]] = {}
        self._latest: dict[str, Any] = {}
        self._epochs = 0

    def add(
        self, number: int, folds: Sequence[FoldMetrics], started: float, *, ended: bool, error: str | None = None
    ) -> None:
        """Tell what a trial has reached on the splits so far, that it has ended, why it failed."""
        seconds = time.perf_counter() - started
        told = {"number": number, "folds": [asdict(fold) for fold in folds], "seconds": seconds, "ended": ended}
        self._waiting[number] = told if error is None else {**told, "error": error}
        value = reached(self._metric, [fold.metrics for fold in folds], failed=error is not None)
        done = len(folds) + (error is not None)
        self._latest = {self._metric: value, "splits_done": done, "epochs_done": self._epochs}
        # The search may have to end over a failure.
        if error is not None or time.monotonic() - self._sent >= self._interval:
            self.send()

    def add_epoch(self, number: int, epochs: int, value: float) -> None:
        """Tell what the training of a trial validates at after so many epochs."""
        started: dict[str, Any] = {"number": number, "folds": [], "ended": False}
        self._epochs = epochs
        tune.report({self._metric: value, "epochs_done": epochs, "trials": [started]})

    def send(self) -> None:
        """Report what has not been reported yet."""
        if self._waiting:
            tune.report({**self._latest, "trials": list(self._waiting.values())})
            self._waiting, self._sent = {}, time.monotonic()


def _run(
    trial: Mapping[str, Any],
    plan: TrialPlan,
    tasks: Mapping[FoldKey, ray.ObjectRef[Any]],
    results: ActorHandle[Any],
    reports: _Reports,
) -> None:
    """Evaluate one configuration, but on splits that are known of it from before."""
    started, folds = time.perf_counter(), list[FoldMetrics]()
    known = {(fold["seed"], fold["split"]): FoldMetrics(**fold) for fold in trial["folds"]}
    try:
        model = model_type(plan.model)
        config = model.config_type.model_validate(dict(trial["parameters"]))
        for fold, reference in tasks.items():
            with _options(plan, trial["number"], fold, results, reports if not folds else None) as options:
                folds.append(known.get(fold) or _evaluated(model(config), reference, fold, plan, results, options))
            reports.add(trial["number"], folds, started, ended=len(folds) == len(tasks))
    except (ColdrayError, MemoryError, np.linalg.LinAlgError) as error:
        reports.add(trial["number"], folds, started, ended=True, error=_reason(error))


@contextmanager
def _options(
    plan: TrialPlan, number: int, fold: FoldKey, results: ActorHandle[Any], reports: _Reports | None
) -> Iterator[FitOptions]:
    """Yield how a trial is fitted on a fold: its trainings are told to `results`, and go on where they were lost.

    With `reports`, and if a scheduler judges epochs, it is told of them.
    """
    listeners: list[TrainingListener] = [Forwarding(results, TrainingPlace.of_trial(number, fold_name(*fold)))]
    if reports is not None and plan.by_epochs:
        listeners.append(_EpochReports(partial(reports.add_epoch, number)))
    name = f"trial-{number}-seed-{fold[0]}-split-{fold[1]}"
    with _kept_checkpoints(plan.checkpoints and plan.checkpoints / name) as folder:
        yield plan.fit.options(TrainingListeners(*listeners), folder)


def _evaluated(
    model: Recommender[Any],
    reference: ray.ObjectRef[Any],
    fold: FoldKey,
    plan: TrialPlan,
    results: ActorHandle[Any],
    options: FitOptions,
) -> FoldMetrics:
    """Fit the model on the train side of a split, and measure it on the validation side."""
    started, cpu = time.perf_counter(), time.process_time()
    kept = _kept(plan.study_id, results)
    if fold not in kept.tasks:
        kept.tasks[fold] = ray.get(reference)
    task = kept.tasks[fold]
    fitted = model.fit(task.train, kept.shared, options)
    measured = evaluate_fold(
        fitted,
        task,
        candidates=plan.candidates,
        cutoffs=plan.cutoffs,
        cache=kept.rankings,
        computations=kept.shared,
        options=options,
    )
    metrics, parts = measured.means(), measured.part_means()
    if not all(np.isfinite(value) for value in (*metrics.values(), *parts.values())):
        raise NumericalError(f"{task.train.key}: a metric is not finite.")
    return FoldMetrics(
        *fold, metrics, time.perf_counter() - started, time.process_time() - cpu, peak_bytes(), parts=parts
    )


def _reason(error: BaseException) -> str:
    """Return the message of `error`, or of its cause when it comes out of a Ray task."""
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {masked(str(cause))}"


@dataclass(frozen=True)
class _Kept:
    """What a worker process, which runs one trial after the other, keeps from one to the next."""

    rankings: RankingCache
    shared: ClusterComputations
    tasks: dict[FoldKey, EvaluationFold] = field(default_factory=dict)
    """Those it has come to. Their arrays are in Ray's store; what is read anew each time is all the rest."""


_studies: dict[str, _Kept] = {}


def _kept(study_id: str, results: ActorHandle[Any]) -> _Kept:
    if study_id not in _studies:
        _studies.clear()
        _studies[study_id] = _Kept(RankingCache(), ClusterComputations(results))
    return _studies[study_id]


class _EpochReports(TrainingListener):
    """Tells how many epochs of a training are done, and what the last one validates at."""

    def __init__(self, told: Callable[[int, float], None]) -> None:
        self._told = told
        self._metric: str | None = None

    def training_started(self, plan: TrainingPlan) -> None:
        """Learn what the training stops by."""
        self._metric = plan.metric

    def epoch_done(self, record: EpochRecord) -> None:
        """Report an epoch; one of a training on everything validates nothing."""
        if self._metric is not None and self._metric in record.metrics:
            self._told(record.epoch + 1, record.metrics[self._metric])


@contextmanager
def _kept_checkpoints(folder: Path | None) -> Iterator[Path | None]:
    """Yield a folder for the checkpoints of a fit, or None where this node does not see the one it is to be in.

    It is removed when all is well.
    """
    if folder is None or not folder.parent.is_dir():
        yield None
        return
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
