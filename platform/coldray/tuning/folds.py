"""Folds made ready on the cluster: encoded items and clicks, kept in the object store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle

from coldray.data.splits import Fold
from coldray.errors import ConfigError
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.tuning.evaluation import EvaluationTask
from coldray.tuning.shared import SharedResults


def prepare_task(fold: Fold, features: FeatureConfig | None) -> EvaluationTask:
    """Encode the items of a fold and collect what models are fitted on and measured with.

    Without `features` nothing is known of the items but their clicks.

    Raises
    ------
    ConfigError
        If the features leave nothing to compare the items of the fold by.
    """
    data = fold.dataset
    if features is None:
        return EvaluationTask.of(fold, TrainingSet(fold.train, FeatureSet({}, data.n_items), fold.name))
    encoder = FeatureEncoder(features).fit(data)
    try:
        encoder.check_usable()
    except ConfigError as error:
        raise ConfigError(f"The {data.n_items:,} items of {fold.name}: {error}") from error
    return EvaluationTask.of(fold, TrainingSet(fold.train, encoder.transform(data.attributes, data.n_items), fold.name))


_prepare = ray.remote(num_cpus=1)(prepare_task)


def prepare_tasks(folds: Sequence[Fold], features: FeatureConfig | None) -> dict[str, ray.ObjectRef[EvaluationTask]]:
    """Prepare folds on the cluster; return the references by fold name."""
    references = {fold.name: _prepare.remote(ray.put(fold), features) for fold in folds}
    try:
        ray.get([_nothing.remote(reference) for reference in references.values()])
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, Exception) else error from None
    return references


@ray.remote(num_cpus=0)
def _nothing(task: EvaluationTask) -> None:
    """Wait for a task without fetching it."""


def shared_results(tasks: Mapping[str, ray.ObjectRef[EvaluationTask]], gpus: float = 0.0) -> ActorHandle[Any]:
    """Return an actor that shares computations on the train sides of `tasks`; to be killed when it is done with.

    Each computation reserves `gpus` GPUs.
    """
    results = SharedResults.remote(gpus)  # type: ignore[attr-defined]
    for key, reference in tasks.items():
        ray.get(results.add_data.remote(key, [_train_of.remote(reference)]))
    return results  # type: ignore[no-any-return]


@ray.remote(num_cpus=0)
def _train_of(task: EvaluationTask) -> TrainingSet:
    return task.train
