"""Computations shared by the trials of a study: each is done once in the cluster and kept in the object store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Concatenate

import ray
from ray import cloudpickle
from ray.actor import ActorHandle

from coldray.experiments.search.shared_results import Asked
from coldray.models.base import Recommender
from coldray.models.computations import Computations, D, P, Shared, T, computation_key
from coldray.training.cluster.mailbox import Forwarding
from coldray.training.options import FitConfig
from coldray.training.progress import TrainingPlace

_AT_HAND = 16
"""Results that a worker does not ask for again: the latest ones. Their arrays stay where they are, in Ray's store."""
_LABELS = {
    "regression_moments": "regression moments",
    "coclick_moments": "co-click correlations",
    "sampled_moments": "regression moments",
    "aligned_similarity": "mixed similarity",
    "gram_spectrum": "eigendecomposition",
    "co_click_spectrum": "eigendecomposition",
    "learn_similarity": "training",
    "item_profiles": "item profiles",
    "kernel_matrices": "kernels",
    "learned_covariance": "covariance of items",
    "conditional": "conditional means",
    "condition_on_inducing": "conditional means",
    "co_clicks": "co-clicks",
    "counted": "co-clicks",
    "known_or_predicted": "predicted popularity",
    "learn_popularity": "predicted popularity",
    "co_click_weights": "attribute weights",
    "neighbours": "neighbours",
    "similar_items": "neighbours",
    "singular_vectors": "singular vectors",
    "item_blocks": "blocks of items",
    "residual_vectors": "singular vectors",
    "similarly_rated": "neighbours",
    "fitted_stage": "stages of pipelines",
}


class ClusterComputations(Computations):
    """Answers a model's shared computations from the cluster's object store."""

    def __init__(self, results: ActorHandle[Any]) -> None:
        super().__init__()
        self._actor = results
        self._at_hand: OrderedDict[str, Any] = OrderedDict()

    def get(self, function: Callable[Concatenate[D, P], T], data: D, /, *args: P.args, **parameters: P.kwargs) -> T:
        """Return ``function(data, **parameters)``, computed once in the cluster."""
        if args:
            raise TypeError(f"{function.__name__} was given positional parameters; name them.")
        key = computation_key(function, data.key, parameters)
        if key not in self._at_hand:
            request: Any = self._actor.request.remote(_asked(function, data.key, parameters))
            reference: ray.ObjectRef[T] = ray.get(request)[0]
            self._at_hand[key] = ray.get(reference)
            if len(self._at_hand) > _AT_HAND:
                self._at_hand.popitem(last=False)
        self._at_hand.move_to_end(key)
        result: T = self._at_hand[key]
        return result


@ray.remote(num_cpus=0)
def fit_ahead(
    model: Recommender[Any], how: FitConfig, tasks: Sequence[ray.ObjectRef[Any]], results: ActorHandle[Any]
) -> None:
    """Fit the model of trial 0 on one split after the other, for trials to find there what they share with it.

    Workers take seconds to start, and a trial comes to a split when it is done with the one before. One split after the
    other, no more memory is taken than by a trial. What fails here fails again, and is told, in the trial itself.
    """
    shared = ClusterComputations(results)
    with suppress(Exception):
        for task in tasks:
            train = ray.get(task).train
            listener = Forwarding(results, TrainingPlace.of_trial(0, train.key))
            model.fit(train, shared, how.options(listener))


def _asked(function: Callable[..., Any], data_key: str, parameters: dict[str, Any]) -> Asked:
    """Return a computation as the actor of the results is asked for it."""
    shared = {name: value for name, value in parameters.items() if isinstance(value, Shared)}
    plain = {name: value for name, value in parameters.items() if name not in shared}
    return Asked(
        computation_key(function, data_key, parameters),
        data_key,
        function.__name__,
        _label(function, data_key, parameters),
        cloudpickle.dumps((function, plain)),  # type: ignore[no-untyped-call]
        {name: _asked(value.function, data_key, dict(value.parameters)) for name, value in shared.items()},
    )


def _label(function: Callable[..., Any], data_key: str, parameters: dict[str, Any]) -> str:
    symbols = {"delta": "δ", "order": "order", "lambda_0": "λ₀"}
    shown = [f"{symbols[name]}={value}" for name, value in parameters.items() if name in symbols and value]
    shown += [value.__name__ for name, value in parameters.items() if name == "network"]
    return f"{_LABELS.get(function.__name__, function.__name__)} of {data_key}" + (
        f" ({', '.join(shown)})" if shown else ""
    )
