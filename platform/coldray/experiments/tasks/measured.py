"""What is measured of a fitted model on a fold, by what the fold is."""

from __future__ import annotations

from typing import Any

from coldray.evaluation.metrics import RankingMetrics
from coldray.experiments.evaluation import Candidates, EvaluationFold, RankingCache, evaluate
from coldray.experiments.tasks.mixed import evaluate_mixed
from coldray.experiments.tasks.warming import evaluate_warming
from coldray.models.base import Recommender
from coldray.models.computations import Computations
from coldray.training.options import FitOptions


def evaluate_fold(
    model: Recommender[Any],
    task: EvaluationFold,
    *,
    candidates: Candidates,
    cutoffs: tuple[int, ...],
    cache: RankingCache | None = None,
    computations: Computations | None = None,
    options: FitOptions = FitOptions(),
) -> RankingMetrics:
    """Return the metrics of a model on a fold, with those of its tasks where it has several.

    Parameters
    ----------
    model
        Fitted on ``task.train``.
    computations, options
        Of further fits where something becomes known, see :func:`~coldray.experiments.tasks.warming.evaluate_warming`.
    """
    if task.warming is not None:
        return evaluate_warming(
            model, task, candidates=candidates, cutoffs=cutoffs, computations=computations, options=options
        )
    if task.is_mixed:
        return evaluate_mixed(model, task, candidates=candidates, cutoffs=cutoffs)
    return evaluate(model, task, candidates=candidates, cutoffs=cutoffs, cache=cache)
