"""Computations shared by the trials of a study: each is done once in the cluster and kept in the object store."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Concatenate, Literal, TypeAlias

import ray
from ray.actor import ActorHandle

from coldray.models.base import Recommender
from coldray.models.computations import Computations, D, P, Shared, T, computation_key
from coldray.training.cluster.mailbox import Events, Forwarding
from coldray.training.options import FitConfig
from coldray.training.progress import TrainingPlace

State: TypeAlias = Literal["running", "done"]

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
}


@dataclass(frozen=True)
class SharedStatus:
    """What the progress display shows of one shared computation."""

    label: str
    state: State
    seconds: float


@ray.remote(num_cpus=0)
def _compute(function: Callable[..., Any], data: Any, parameters: dict[str, Any], **shared: Any) -> Any:
    # No CPU is reserved: whoever waits for the result holds one and does nothing meanwhile.
    return function(data, **parameters, **shared)


@ray.remote(num_cpus=0)
class SharedResults(Events):
    """Names of results and where they are. It starts each computation as a Ray task, so Ray retries a lost worker.

    It also holds what trainings tell, of trials and of what they share.
    """

    def __init__(self, gpus: float = 0.0) -> None:
        super().__init__()
        self._gpus = gpus
        self._data: dict[str, list[ray.ObjectRef[Any]]] = {}
        self._results: dict[str, list[ray.ObjectRef[Any]]] = {}
        self._status: dict[str, tuple[str, State, float, float]] = {}

    def add_data(self, key: str, reference: list[ray.ObjectRef[Any]]) -> None:
        """Make data known under the key its computations are named by."""
        self._data[key] = reference

    def request(
        self,
        key: str,
        function: Callable[..., Any],
        data_key: str,
        parameters: dict[str, Any],
    ) -> Any:
        """Return the reference of a result in a list, starting its computation if nobody has.

        A training that many share is told to the listener of the one who asked first.
        """
        if key not in self._results:
            task = _compute.options(name=function.__name__, scheduling_strategy="SPREAD", num_gpus=self._gpus)
            # References are keyword arguments of the task: Ray waits for those and puts the results in their places.
            shared = {
                name: self.request(computation_key(value.function, data_key, {}), value.function, data_key, {})[0]
                for name, value in parameters.items()
                if isinstance(value, Shared)
            }
            plain = {name: value for name, value in parameters.items() if name not in shared}
            self._results[key] = [task.remote(function, self._data[data_key][0], plain, **shared)]
            label = _label(function, data_key, parameters)
            self._status[key] = (label, "running", time.monotonic(), 0.0)
        return self._results[key]

    def status(self) -> list[SharedStatus]:
        """Return every computation asked for so far, in that order."""
        for key, (label, state, started, _) in list(self._status.items()):
            if state == "running":
                ready, _ = ray.wait(self._results[key], timeout=0, fetch_local=False)
                if ready:
                    self._status[key] = (label, "done", started, time.monotonic())
        now = time.monotonic()
        return [
            SharedStatus(label, state, (ended or now) - started)
            for label, state, started, ended in self._status.values()
        ]


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
            request: Any = self._actor.request.remote(key, function, data.key, parameters)
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


def _label(function: Callable[..., Any], data_key: str, parameters: dict[str, Any]) -> str:
    symbols = {"delta": "δ", "order": "order", "lambda_0": "λ₀"}
    shown = [f"{symbols[name]}={value}" for name, value in parameters.items() if name in symbols and value]
    shown += [value.__name__ for name, value in parameters.items() if name == "network"]
    return f"{_LABELS.get(function.__name__, function.__name__)} of {data_key}" + (
        f" ({', '.join(shown)})" if shown else ""
    )
