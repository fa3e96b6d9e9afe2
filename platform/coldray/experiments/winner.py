"""The one use of test data: the winner, refitted and measured once on each split."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import ray

from coldray.core.errors import StudyError
from coldray.core.ray_errors import in_words
from coldray.evaluation.metrics import RankingMetrics
from coldray.evaluation.ratings import RatingMetrics
from coldray.evaluation.significance import bootstrap_interval
from coldray.experiments.evaluation import Candidates, EvaluationFold
from coldray.experiments.folds import prepare_tasks
from coldray.experiments.inspection.config import InspectionConfig
from coldray.experiments.inspection.costs import FitMeter
from coldray.experiments.inspection.measure import Inspection, inspect
from coldray.experiments.listeners import StudyListener
from coldray.experiments.prepared import PreparedStudy
from coldray.experiments.results import FoldMetrics, Selection
from coldray.experiments.tasks.measured import evaluate_fold
from coldray.models.base import Recommender
from coldray.models.notes import kept_warnings
from coldray.training.cluster.mailbox import Delivery, Forwarding, new_mailbox
from coldray.training.options import FitConfig
from coldray.training.progress import ParameterCount, TrainingListeners, TrainingPlace

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WinnerMetrics:
    """The winner on the test data."""

    folds: tuple[FoldMetrics, ...]
    intervals: dict[str, tuple[float, float]]
    measured: tuple[RankingMetrics, ...]
    """The values of every user, fold by fold: whom another winner was tested on as well can be paired."""
    inspections: tuple[Inspection, ...] = ()
    """What else was measured, fold by fold; nothing unless it was asked for."""
    notes: tuple[str, ...] = ()
    """What its fits had to leave out or fall back on."""


def measure_winner(
    study: PreparedStudy,
    selection: Selection,
    listener: StudyListener | None = None,
    inspection: InspectionConfig | None = None,
) -> WinnerMetrics:
    """Refit the winner on the train part of each split and measure it on the test data, once.

    The listener is told how many splits are done, and of trainings. With `inspection` the splits take turns, so
    that none is timed while another runs beside it.

    Raises
    ------
    StudyError
        If the winner cannot be fitted on a split.
    """
    config = study.config
    tasks = prepare_tasks([split.test_fold for split in study.splits], config)
    model = config.configured(selection.winner.config)
    wanted = _Wanted(model, config.fit, config.candidates, config.cutoffs, inspection)
    watcher, step = listener or StudyListener(), f"test of {config.name}"
    on_worker = _measure.options(num_gpus=config.search.gpus_per_trial)
    mailbox = new_mailbox()
    try:
        with Delivery(mailbox, watcher.training_of):
            if inspection is None:
                outcomes = [on_worker.remote(task, wanted, mailbox, False) for task in tasks.values()]
                measured = _gathered(outcomes, step, watcher)
            else:
                measured = []
                for number, task in enumerate(tasks.values()):
                    watcher.advanced(step, number, len(tasks))
                    measured.append(ray.get(on_worker.remote(task, wanted, mailbox, number == 0)))
                watcher.advanced(step, len(tasks), len(tasks))
    except ray.exceptions.RayError as error:  # the model refused, or its worker was lost
        raise StudyError(
            f"The winner (trial {selection.winner.number}) could not be tested: {in_words(error)}"
        ) from error
    metrics, folds = tuple(one.metrics for one in measured), tuple(one.fold for one in measured)
    found = tuple(one.inspection for one in measured if one.inspection is not None)
    notes = tuple(dict.fromkeys(note for one in measured for note in one.notes))
    return WinnerMetrics(folds, metric_intervals(metrics, config.search.seed), metrics, found, notes)


def metric_intervals(measured: Sequence[RankingMetrics], seed: int) -> dict[str, tuple[float, float]]:
    """Return the interval of each metric over the users of all folds; coverage, one number for all, has none.

    What errors of ratings leave out is logged.
    """
    values: dict[str, list[npt.NDArray[np.float32]]] = {}
    for metrics in measured:
        for name, of_users in metrics.every_per_user().items():
            values.setdefault(name, []).append(of_users)
    intervals = {
        name: bootstrap_interval(np.concatenate(of_folds), generator=np.random.default_rng(seed))
        for name, of_folds in values.items()
    }
    ratings = [metrics.ratings for metrics in measured if metrics.ratings is not None]
    if ratings:
        every = RatingMetrics.of_all(ratings)
        intervals |= every.intervals(np.random.default_rng(seed))
        if every.n_unknown_items or every.n_unknown_users:
            logger.warning(
                "Test: %s ratings of items that nobody rated in train are left out of rmse, mae and accuracy; %s by "
                "users without a known rating are predicted by what is known of the item.",
                f"{every.n_unknown_items:,}", f"{every.n_unknown_users:,}",
            )  # fmt: skip
    return intervals


def _gathered(outcomes: Sequence[ray.ObjectRef[_Measured]], step: str, listener: StudyListener) -> list[_Measured]:
    """Wait for all outcomes, telling how many are there."""
    waiting = list(outcomes)
    listener.advanced(step, 0, len(outcomes))
    while waiting:
        _, waiting = ray.wait(waiting)
        listener.advanced(step, len(outcomes) - len(waiting), len(outcomes))
    return ray.get(list(outcomes))


@dataclass(frozen=True)
class _Wanted:
    """The winner, and what is to be found out of it."""

    model: Recommender[Any]
    """With the winner's parameters, not fitted yet."""
    fit: FitConfig
    candidates: Candidates
    cutoffs: tuple[int, ...]
    inspection: InspectionConfig | None


@dataclass(frozen=True)
class _Measured:
    """The winner on one fold."""

    metrics: RankingMetrics
    fold: FoldMetrics
    inspection: Inspection | None
    notes: tuple[str, ...]


@ray.remote(num_cpus=1)
def _measure(task: EvaluationFold, wanted: _Wanted, mailbox: Any, mapped: bool) -> _Measured:
    started = time.perf_counter()
    model = wanted.model
    if wanted.inspection is not None:
        import torch  # noqa: F401 - which a fit would otherwise load, at the price of its memory
    place = TrainingPlace("test", fold=task.train.key)
    count = ParameterCount()
    with kept_warnings() as notes, FitMeter() as fit:
        model.fit(task.train, options=wanted.fit.options(TrainingListeners(Forwarding(mailbox, place), count)))
    asked: dict[str, Any] = {"candidates": wanted.candidates, "cutoffs": wanted.cutoffs}
    with kept_warnings() as later:
        metrics = evaluate_fold(model, task, **asked, options=wanted.fit.options())
    notes = list(dict.fromkeys((*notes, *later)))
    seconds = time.perf_counter() - started
    means, parts = metrics.means(), metrics.part_means()
    fold = FoldMetrics(task.seed, task.split, means, seconds, parts=parts, n_parameters=count.total)
    found = None
    if wanted.inspection is not None:
        found = inspect(model, task, fit, metrics, config=wanted.inspection, mapped=mapped, **asked)
    return _Measured(metrics, fold, found, tuple(notes))
