"""The actor that knows which computations of a study are shared, and where their results are.

Without the modules of models, whose loading would take each study seconds: what is computed passes it packed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import ray
from ray import cloudpickle

from coldray.training.cluster.mailbox import Events

State: TypeAlias = Literal["running", "done"]


@dataclass(frozen=True)
class SharedStatus:
    """What the progress display shows of one shared computation."""

    label: str
    state: State
    seconds: float


@dataclass(frozen=True)
class Asked:
    """A computation that is asked for."""

    key: str
    """Its name among all results."""
    data_key: str
    """That under which its data were made known."""
    function: str
    """The name of what computes it."""
    label: str
    """What is told of it."""
    packed: bytes
    """A function of the data, and its plain parameters, pickled."""
    shared: Mapping[str, Asked]
    """Parameters that are themselves results of the same data."""


@ray.remote(num_cpus=0)
def _compute(packed: bytes, data: Any, **shared: Any) -> Any:
    # No CPU is reserved: whoever waits for the result holds one and does nothing meanwhile.
    function, parameters = cloudpickle.loads(packed)
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

    def request(self, asked: Asked) -> Any:
        """Return the reference of a result in a list, starting its computation if nobody has.

        A training that many share is told to the listener of the one who asked first.
        """
        if asked.key not in self._results:
            task = _compute.options(name=asked.function, scheduling_strategy="SPREAD", num_gpus=self._gpus)
            # References are keyword arguments of the task: Ray waits for those and puts the results in their places.
            shared = {name: self.request(one)[0] for name, one in asked.shared.items()}
            self._results[asked.key] = [task.remote(asked.packed, self._data[asked.data_key][0], **shared)]
            self._status[asked.key] = (asked.label, "running", time.monotonic(), 0.0)
        return self._results[asked.key]

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
