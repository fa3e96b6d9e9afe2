"""The epochs of a training on the MLflow tracking server."""

from __future__ import annotations

import time
from collections.abc import Iterator

from mlflow.entities import Metric

from coldray.tracking.logged_values import metric_of
from coldray.tracking.spool import Spool
from coldray.training.history import EpochRecord, TrainingResult
from coldray.training.progress import TrainingListener, TrainingPlace, TrainingPlan

_SEND_SECONDS = 10.0
"""The shortest time between two calls on the epochs of a training that goes on."""


class EpochTracker(TrainingListener):
    """Logs each epoch's loss, metrics, learning rate and throughput to a run, many epochs a call.

    The step is the number of the epoch, and each epoch is logged once: one that was logged before a training was lost
    is not logged again, and one that was not is learnt from the checkpoint that the training goes on from.

    Parameters
    ----------
    spool
        Where calls are kept, and sent from.
    run
        The spool's key of the run to log to; it is left open.
    place
        Which training it is: its task and fold end the name of every metric, as of ``epoch_loss/VAE/seed_42_split_0``,
        and metrics of a refit begin with ``refit_epoch``.
    """

    def __init__(self, spool: Spool, run: str, place: TrainingPlace) -> None:
        self._spool, self._run = spool, run
        fit = "" if place.trial is not None else f"{place.what}_"
        again = "" if place.nth == 0 else "refit_" if place.nth == 1 else f"refit_{place.nth}_"
        self._prefix = f"{fit}{again}epoch"
        parts = (part.replace(" / ", "_").replace(" ", "_") for part in (place.task, place.fold) if part)
        self._end = "".join(f"/{part}" for part in parts)
        self._last = spool.steps.get((run, self._name("seconds")), -1)
        self._waiting: list[Metric] = []
        self._sent = time.monotonic()

    def training_started(self, plan: TrainingPlan) -> None:
        """Log what is missing of the epochs that a training goes on from."""
        for record in plan.history:
            self._keep(record)

    def epoch_done(self, record: EpochRecord) -> None:
        """Keep the epoch; send it with others after a while."""
        self._keep(record)
        if time.monotonic() - self._sent >= _SEND_SECONDS:
            self.send()

    def training_ended(self, result: TrainingResult | None) -> None:
        """Send the rest, of a training that failed too."""
        if result is not None and (self._run, self._name("best")) not in self._spool.steps:
            self._waiting.append(metric_of(self._name("best"), float(result.best_epoch)))
        self.send()

    def send(self) -> None:
        """Send what waits."""
        waiting, self._waiting, self._sent = self._waiting, [], time.monotonic()
        if waiting:
            self._spool.log(self._run, waiting)

    def _keep(self, record: EpochRecord) -> None:
        if record.epoch > self._last:
            self._last = record.epoch
            self._waiting += [metric_of(self._name(name), value, record.epoch) for name, value in _values(record)]

    def _name(self, value: str) -> str:
        return f"{self._prefix}_{value}{self._end}"


def _values(record: EpochRecord) -> Iterator[tuple[str, float]]:
    yield "loss", record.loss
    yield "learning_rate", record.learning_rate
    yield "examples_per_second", record.examples_per_second
    yield "seconds", record.seconds
    for name, value in record.parts.items():
        yield f"loss_{name}", value
    for name, value in record.metrics.items():
        yield f"val_{name.replace('@', '_at_')}", value
