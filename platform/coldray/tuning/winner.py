"""The one use of test data: the winner, refitted and measured once on each split."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from coldray.data.splits import Split
from coldray.errors import StudyError
from coldray.evaluation.metrics import RankingMetrics
from coldray.evaluation.ratings import RatingMetrics
from coldray.evaluation.significance import bootstrap_interval
from coldray.models.registry import model_type
from coldray.tuning.evaluation import Candidates, EvaluationTask, evaluate
from coldray.tuning.folds import prepare_tasks
from coldray.tuning.listeners import StudyListener
from coldray.tuning.results import FoldMetrics, Selection
from coldray.tuning.space import StudyConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WinnerMetrics:
    """The winner on the test data."""

    folds: tuple[FoldMetrics, ...]
    intervals: dict[str, tuple[float, float]]
    measured: tuple[RankingMetrics, ...]
    """The values of every user, fold by fold: whom another winner was tested on as well can be paired."""


def measure_winner(
    config: StudyConfig, selection: Selection, splits: Sequence[Split], listener: StudyListener | None = None
) -> WinnerMetrics:
    """Refit the winner on the train part of each split and measure it on the test data, once.

    The listener is told how many splits are done.

    Raises
    ------
    StudyError
        If the winner cannot be fitted on a split.
    """
    tasks = prepare_tasks([split.test_fold for split in splits], config)
    parameters = dict(selection.winner.config)
    outcomes = [
        _measure.options(num_gpus=config.search.gpus_per_trial).remote(
            task, parameters, config.model, config.candidates, config.cutoffs
        )
        for task in tasks.values()
    ]
    try:
        measured = _gathered(outcomes, f"test of {config.name}", listener or StudyListener())
    except ray.exceptions.RayError as error:  # the model refused, or its worker was lost
        cause = getattr(error, "cause", None) or error
        raise StudyError(f"The winner (trial {selection.winner.number}) could not be tested: {cause}") from error
    metrics, folds = tuple(metrics for metrics, _ in measured), tuple(fold for _, fold in measured)
    return WinnerMetrics(folds, _intervals(metrics, config.search.seed), metrics)


def _intervals(measured: Sequence[RankingMetrics], seed: int) -> dict[str, tuple[float, float]]:
    """Return the interval of each metric over the users of all folds; coverage, one number for all, has none.

    What errors of ratings leave out is logged.
    """
    intervals = {
        name: bootstrap_interval(
            np.concatenate([metrics.per_user[name] for metrics in measured]), generator=np.random.default_rng(seed)
        )
        for name in measured[0].per_user
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


def _gathered(
    outcomes: Sequence[ray.ObjectRef[tuple[RankingMetrics, FoldMetrics]]], step: str, listener: StudyListener
) -> list[tuple[RankingMetrics, FoldMetrics]]:
    """Wait for all outcomes, telling how many are there."""
    waiting = list(outcomes)
    listener.advanced(step, 0, len(outcomes))
    while waiting:
        _, waiting = ray.wait(waiting)
        listener.advanced(step, len(outcomes) - len(waiting), len(outcomes))
    return ray.get(list(outcomes))


@ray.remote(num_cpus=1)
def _measure(
    task: EvaluationTask, parameters: dict[str, Any], model: str, candidates: Candidates, cutoffs: tuple[int, ...]
) -> tuple[RankingMetrics, FoldMetrics]:
    started = time.perf_counter()
    kind = model_type(model)
    fitted = kind(kind.config_type.model_validate(parameters)).fit(task.train)
    metrics = evaluate(fitted, task, candidates=candidates, cutoffs=cutoffs)
    fold = FoldMetrics(task.seed, task.split, metrics.means(), time.perf_counter() - started)
    return metrics, fold
