"""Events of a process that trains, for the one that called for the training.

Without torch and Ray Train, which take seconds to load in each process of a mailbox.
"""

from __future__ import annotations

import threading
from typing import Any, TypeAlias

import ray

from coldray.core.errors import ColdrayError
from coldray.training.history import EpochRecord
from coldray.training.progress import StepProgress, TrainingListener, TrainingPlan

MAIL_SECONDS = 0.5

Event: TypeAlias = tuple[str, Any]


@ray.remote(num_cpus=0)
class Mailbox:
    """Holds events until they are taken, and the error that makes further attempts pointless."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._error: ColdrayError | str | None = None

    def put(self, name: str, argument: Any) -> None:
        """Add an event: the name of a listener's method and what to call it with."""
        self._events.append((name, argument))

    def take(self) -> list[Event]:
        """Return the events since the last call."""
        taken, self._events = self._events, []
        return taken

    def fail(self, error: ColdrayError | str) -> None:
        """Keep the first error, or the description of a divergence."""
        if self._error is None:
            self._error = error

    def error(self) -> ColdrayError | str | None:
        """Return the error kept."""
        return self._error


class Forwarding(TrainingListener):
    """In a worker: sends all it is told to the mailbox, without waiting."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox

    def training_started(self, plan: TrainingPlan) -> None:
        """Send."""
        self.mailbox.put.remote("training_started", plan)

    def step_done(self, progress: StepProgress) -> None:
        """Send."""
        self.mailbox.put.remote("step_done", progress)

    def epoch_done(self, record: EpochRecord) -> None:
        """Send, and wait until it has arrived: the process may end right afterwards."""
        ray.get(self.mailbox.put.remote("epoch_done", record))


class Delivery:
    """In the calling process: empties a mailbox into a listener, from a thread, for as long as the block lasts.

    An error of the listener ends the delivery, not the training; it is raised at the end of the block.
    """

    def __init__(self, mailbox: Any, listener: TrainingListener) -> None:
        self.mailbox, self.listener = mailbox, listener
        self._done = threading.Event()
        self._error: Exception | None = None
        self._last_epoch = -1
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
        for name, argument in ray.get(self.mailbox.take.remote()):
            if name == "training_ended":  # another training may follow
                self._last_epoch = -1
            elif name == "epoch_done":
                if argument.epoch <= self._last_epoch:  # run once more after workers were lost
                    continue
                self._last_epoch = argument.epoch
            getattr(self.listener, name)(argument)
