"""One trial: a configuration, evaluated split after split on validation data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.actor import ActorHandle

from coldray.device import load_torch_aside
from coldray.errors import ColdrayError, NumericalError
from coldray.models.base import Recommender
from coldray.models.registry import model_type
from coldray.tuning.evaluation import Candidates, EvaluationTask, RankingCache, evaluate
from coldray.tuning.results import FoldMetrics, reached
from coldray.tuning.shared import ClusterComputations

Fold = tuple[int, int]
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
    known: Mapping[int, Mapping[Fold, FoldMetrics]] = field(default_factory=dict)
    """By the number of a trial, the splits that it was evaluated on before the study was interrupted."""


def run_trial(
    trial: Mapping[str, Any],
    *,
    plan: TrialPlan,
    tasks: Mapping[Fold, ray.ObjectRef[Any]],
    results: ActorHandle[Any],
) -> None:
    """Report the running mean of the metric after each split, so that a scheduler can stop a weak trial.

    A model that cannot be fitted fails its own trial alone: the reason is reported, the worker goes on.
    """
    folds: list[dict[str, Any]] = []
    known = plan.known.get(trial["number"], {})
    load_torch_aside()  # lists are made with it, once what trials share is there
    try:
        model = model_type(plan.model)
        config = model.config_type.model_validate(dict(trial["parameters"]))
        for fold, reference in tasks.items():
            metrics = known.get(fold) or _evaluated(model(config), reference, fold, plan, results)
            folds.append(asdict(metrics))
            mean = reached(plan.metric, [done["metrics"] for done in folds])
            tune.report({plan.metric: mean, "splits_done": len(folds), "folds": folds})
    except (ColdrayError, MemoryError, np.linalg.LinAlgError) as error:
        worst = reached(plan.metric, [], failed=True)
        tune.report({plan.metric: worst, "splits_done": len(folds) + 1, "folds": folds, "error": _reason(error)})


def _evaluated(
    model: Recommender[Any], reference: ray.ObjectRef[Any], fold: Fold, plan: TrialPlan, results: ActorHandle[Any]
) -> FoldMetrics:
    """Fit the model on the train side of a split, and measure it on the validation side."""
    started = time.perf_counter()
    cache, shared = _kept(plan.study_id, results)
    task: EvaluationTask = ray.get(reference)
    fitted = model.fit(task.train, shared)
    metrics = evaluate(fitted, task, candidates=plan.candidates, cutoffs=plan.cutoffs, cache=cache).means()
    if not all(np.isfinite(value) for value in metrics.values()):
        raise NumericalError(f"{task.train.key}: a metric is not finite.")
    return FoldMetrics(*fold, metrics, time.perf_counter() - started)


def _reason(error: BaseException) -> str:
    """Return the message of `error`, or of its cause when it comes out of a Ray task."""
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {cause}"


_studies: dict[str, tuple[RankingCache, ClusterComputations]] = {}


def _kept(study_id: str, results: ActorHandle[Any]) -> tuple[RankingCache, ClusterComputations]:
    """Return what this worker process, which runs one trial after the other, keeps from one to the next."""
    if study_id not in _studies:
        _studies.clear()
        _studies[study_id] = RankingCache(), ClusterComputations(results)
    return _studies[study_id]
