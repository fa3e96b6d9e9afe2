"""Folds made ready on the cluster: encoded items and clicks, kept in the object store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.actor import ActorHandle

from coldray.core.device import load_torch_aside
from coldray.core.ray_errors import of_ray
from coldray.data.signals import Reads
from coldray.data.splits.items import Fold
from coldray.data.splits.positives import Positives
from coldray.experiments.evaluation import EvaluationFold, known_key
from coldray.experiments.space import StudyConfig
from coldray.features.builder import FeatureConfig, attribute_names, encoded
from coldray.features.feature_set import FeatureSet
from coldray.features.moments import ReadMoments, asked_features
from coldray.models.base import TrainingSet, users_key

_CLICKS = Reads()


def prepare_task(
    fold: Fold,
    features: FeatureConfig | None,
    *,
    reads: Reads = _CLICKS,
    predicts: bool = False,
    users: int | None = None,
    profiles: FeatureConfig | None = None,
    moments: FeatureConfig | None = None,
    positives: Positives | None = None,
) -> EvaluationFold:
    """Encode the items of a fold and collect what models are fitted on and measured with.

    Without `features`, or attributes that they read, nothing is known of the items but their clicks. What is to be
    found is clicks, or events by their weights, whatever is read of those that are known; ratings, if the model
    `predicts` them. So many `users` are measured at most. With `profiles` the attributes of users are encoded, too, and
    with `moments` those of the moments of clicks: a list is then asked for at the first of a user's held-out clicks.
    With `positives`, what they take of what is held out is to be found.

    Raises
    ------
    ConfigError
        If the features leave nothing to compare the items of the fold by, or its users.
    MissingFieldError
        If the dataset has no ratings or no timestamps, and they are read.
    """
    fold = fold.as_read(reads)
    data = fold.dataset
    if features is None or not attribute_names(data, features):
        of_items = FeatureSet({}, data.n_items)
    else:
        of_items = encoded(features, data, f"items of {fold.name}")[1]
    # A model of moments reads attributes of users where there are any.
    profiles = None if moments is not None and not data.user_attributes else profiles
    of_users = None if profiles is None else encoded(profiles, data.of_users, f"users of {fold.name}")[1]
    if moments is None:
        train, asked = TrainingSet(fold.train, of_items, fold.name, of_users), None
    else:
        read = ReadMoments.of(moments, data, fold.train)
        train = TrainingSet(read.clicks, of_items, fold.name, of_users, read.moments)
        asked = asked_features(read.encoder, data, train=fold.train, given=fold.given, held_out=fold.held_out)
    made = EvaluationFold.of(fold, train, ratings=predicts, limit=users, positives=positives)
    return made if asked is None else replace(made, asked=asked)


@ray.remote(num_cpus=0, num_returns=2)
def _prepare(
    fold: Fold,
    features: FeatureConfig | None,
    profiles: FeatureConfig | None,
    moments: FeatureConfig | None,
    reads: Reads,
    predicts: bool,
    users: int | None,
    positives: Positives | None,
    after: None,
) -> tuple[EvaluationFold, None]:
    """Prepare a fold once another, whose second result is `after`, is prepared.

    No CPU is reserved: where a fold is lost with its node, it is prepared again while trials that wait for it hold
    all the CPUs there are.
    """
    load_torch_aside()  # what comes next on this worker needs it: shared computations, the test
    task = prepare_task(
        fold,
        features,
        reads=reads,
        predicts=predicts,
        users=users,
        profiles=profiles,
        moments=moments,
        positives=positives,
    )
    return task, None


def begin_tasks(folds: Sequence[Fold], config: StudyConfig) -> dict[str, ray.ObjectRef[EvaluationFold]]:
    """Begin to prepare the folds of a study on the cluster, as :func:`prepare_task` does: as many at once as CPUs.

    Returns
    -------
    dict
        The references by fold name, for :func:`wait_for_tasks`.
    """
    features = config.encoded_features, config.encoded_users, config.encoded_moments
    users = config.splits.users
    read = config.reads, config.kind.predicts_ratings
    at_once = max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
    references: dict[str, ray.ObjectRef[EvaluationFold]] = {}
    ends: list[Any] = [None] * at_once
    for fold in folds:
        given = ray.put(fold), *features, *read, users, config.positives, ends[-at_once]
        both: Any = _prepare.options(scheduling_strategy="SPREAD").remote(*given)
        references[fold.name], end = both
        ends.append(end)
    return references


def wait_for_tasks(references: Mapping[str, ray.ObjectRef[EvaluationFold]]) -> None:
    """Wait until folds are prepared; raise what :func:`prepare_task` raised."""
    try:
        ray.get([_nothing.remote(reference) for reference in references.values()])
    except ray.exceptions.RayError as error:
        raise of_ray(error) from error


def prepare_tasks(folds: Sequence[Fold], config: StudyConfig) -> dict[str, ray.ObjectRef[EvaluationFold]]:
    """Begin, and wait."""
    references = begin_tasks(folds, config)
    wait_for_tasks(references)
    return references


@ray.remote(num_cpus=0)
def _nothing(task: EvaluationFold) -> None:
    """Wait for a task without fetching it."""


def share_training(
    results: ActorHandle[Any],
    tasks: Mapping[str, ray.ObjectRef[EvaluationFold]],
    clicks: Sequence[int] = (),
    *,
    people: bool = False,
) -> None:
    """Give the train sides of `tasks` to the actor that shares computations on them.

    Parameters
    ----------
    clicks
        Numbers of known clicks of cold items that models learn from, one after another; none where nothing warms up.
    people
        Whether users in the place of items are learned from, too.
    """
    first = clicks[0] if clicks else 0
    named = [(key, reference, None) for key, reference in tasks.items()]
    later = [(known_key(key, n), reference, n) for key, reference in tasks.items() for n in clicks if n > first]
    given = [(key, _train_of.remote(task, n)) for key, task, n in (*named, *later)]
    if people:
        given += [(users_key(key), _users_of.remote(train)) for key, train in given]
    ray.get([results.add_data.remote(key, [reference]) for key, reference in given])


@ray.remote(num_cpus=0)
def _users_of(train: TrainingSet) -> TrainingSet:
    return train.of_users


@ray.remote(num_cpus=0)
def _train_of(task: EvaluationFold, clicks: int | None) -> TrainingSet:
    return (task if clicks is None else task.after(clicks)).train
