"""The epochs of a training on the MLflow tracking server."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import Metric

from coldray.tracking.access import check_reachable
from coldray.tracking.server import MlflowServer
from coldray.tracking.spool import Spool
from coldray.training.history import EpochRecord, TrainingResult
from coldray.training.progress import TrainingListener

logger = logging.getLogger(__name__)


class TrainingTracker(TrainingListener):
    """Logs each epoch's loss, metrics, learning rate and throughput to a run, many epochs a call.

    A server that stops answering does not stop the training, see :class:`~coldray.tracking.spool.Spool`.

    Parameters
    ----------
    tracking_uri
        An MLflow tracking URI.
    run_id
        The run to log to; it is left open.
    path
        The file in which calls wait for the server; one that goes with this object unless given.
    prefix
        Begins the name of every metric, such as ``epoch_loss``; the step is the number of the epoch.
    every_epochs, every_seconds
        After so many epochs, or so much time, what has come together is sent; the rest at the end of the training.

    Raises
    ------
    TrackingError
        If the server cannot be reached when the training starts.
    """

    def __init__(
        self,
        tracking_uri: str,
        run_id: str,
        *,
        path: Path | None = None,
        prefix: str = "epoch",
        every_epochs: int = 20,
        every_seconds: float = 30.0,
    ) -> None:
        check_reachable(tracking_uri)
        self.run_id, self.prefix, self._path = run_id, prefix, path
        self.every_epochs, self.every_seconds = every_epochs, every_seconds
        self.spool = Spool(path, MlflowServer(tracking_uri, ""), runs={run_id: run_id}, say=logger.warning)
        self._waiting: list[Metric] = []
        self._epochs = 0
        self._sent = time.monotonic()

    def epoch_done(self, record: EpochRecord) -> None:
        """Keep the epoch; send it with others when there are enough."""
        now = int(time.time() * 1000)
        self._waiting += [Metric(name, value, now, record.epoch) for name, value in self._values(record)]
        self._epochs += 1
        if self._epochs >= self.every_epochs or time.monotonic() - self._sent >= self.every_seconds:
            self._send()

    def training_ended(self, result: TrainingResult | None) -> None:
        """Send the rest, of a training that failed too."""
        now = int(time.time() * 1000)
        if result is not None:
            self._waiting.append(Metric(f"{self.prefix}_best", float(result.best_epoch), now, 0))
        self._send()
        if self.spool.close():
            where = f"is kept in {self._path}" if self._path else "is lost: give a path to keep it"
            logger.warning("What the run %s lacks %s. %s", self.run_id, where, self.spool.missing())

    def _values(self, record: EpochRecord) -> Iterator[tuple[str, float]]:
        yield f"{self.prefix}_loss", record.loss
        yield f"{self.prefix}_learning_rate", record.learning_rate
        yield f"{self.prefix}_examples_per_second", record.examples_per_second
        yield f"{self.prefix}_seconds", record.seconds
        for name, value in record.parts.items():
            yield f"{self.prefix}_loss_{name}", value
        for name, value in record.metrics.items():
            yield f"{self.prefix}_val_{name.replace('@', '_at_')}", value

    def _send(self) -> None:
        waiting, self._waiting, self._epochs, self._sent = self._waiting, [], 0, time.monotonic()
        if waiting:
            self.spool.log(self.run_id, waiting)
