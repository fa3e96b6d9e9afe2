"""The events of trainings in other processes, brought to the process that waits for them.

Without torch and Ray Train, which take seconds to load in each process of a mailbox.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from coldray.core.errors import ColdrayError
from coldray.training.history import EpochRecord, TrainingResult
from coldray.training.progress import StepProgress, TrainingListener, TrainingPlace, TrainingPlan

MAIL_SECONDS = 0.5
"""How often a mailbox is emptied."""

Event: TypeAlias = tuple[TrainingPlace, str, Any]
"""Of which training, the name of a listener's method, and what to call it with."""
ListenerOf: TypeAlias = Callable[[TrainingPlace], TrainingListener]


class Events:
    """Holds events until they are taken; part of an actor."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def put(self, place: TrainingPlace, name: str, argument: Any) -> None:
        """Add an event."""
        self._events.append((place, name, argument))

    def take(self) -> list[Event]:
        """Return the events since the last call."""
        taken, self._events = self._events, []
        return taken


@ray.remote(num_cpus=0)
class _Mailbox(Events):
    """Holds events, and the error that makes further attempts pointless."""

    def __init__(self) -> None:
        super().__init__()
        self._error: ColdrayError | str | None = None

    def fail(self, error: ColdrayError | str) -> None:
        """Keep the first error, or the description of a divergence."""
        if self._error is None:
            self._error = error

    def error(self) -> ColdrayError | str | None:
        """Return the error kept."""
        return self._error


def new_mailbox() -> Any:
    """Start a mailbox that lives and dies with this process: the loss of another node costs no event."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return _Mailbox.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]


class Forwarding(TrainingListener):
    """In a worker: sends all it is told to an actor that holds :class:`Events`.

    Parameters
    ----------
    mailbox
        The actor.
    place
        What is fitted; the trainings of each task are counted.
    """

    def __init__(self, mailbox: Any, place: TrainingPlace | None = None) -> None:
        self.mailbox, self.place = mailbox, place or TrainingPlace()
        self._ended: Counter[str] = Counter()

    def training_started(self, plan: TrainingPlan) -> None:
        """Send."""
        self.place = replace(self.place, task=plan.name, nth=self._ended[plan.name])
        self.mailbox.put.remote(self.place, "training_started", plan)

    def step_done(self, progress: StepProgress) -> None:
        """Send."""
        self.mailbox.put.remote(self.place, "step_done", progress)

    def epoch_done(self, record: EpochRecord) -> None:
        """Send, and wait until it has arrived: the process may end right afterwards."""
        ray.get(self.mailbox.put.remote(self.place, "epoch_done", record))

    def training_ended(self, result: TrainingResult | None) -> None:
        """Send all but the weights, and wait until it has arrived."""
        light = None if result is None else replace(result, weights={})
        ray.get(self.mailbox.put.remote(self.place, "training_ended", light))
        self._ended[self.place.task] += 1


class Delivery:
    """In the calling process: empties a mailbox into listeners, from a thread, for as long as the block lasts.

    An error of a listener ends the delivery, not the training; it is raised at the end of the block.

    Parameters
    ----------
    listener_of
        Gives the listener of each training, when it begins.
    """

    def __init__(self, mailbox: Any, listener_of: ListenerOf) -> None:
        self.mailbox, self._listener_of = mailbox, listener_of
        self._listeners: dict[TrainingPlace, tuple[TrainingListener, list[int]]] = {}
        self._done = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="training events", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._done.wait(MAIL_SECONDS):
                self._deliver()
            self._deliver()
        except Exception as error:
            self._error = error

    def _deliver(self) -> None:
        for place, name, argument in ray.get(self.mailbox.take.remote()):
            if place not in self._listeners:
                self._listeners[place] = self._listener_of(place), [-1]
            listener, last_epoch = self._listeners[place]
            if name == "epoch_done":
                if argument.epoch <= last_epoch[0]:  # run once more after workers were lost
                    continue
                last_epoch[0] = argument.epoch
            getattr(listener, name)(argument)
