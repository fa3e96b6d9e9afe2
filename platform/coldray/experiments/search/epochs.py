"""The trainings of a trial: their epochs judged by a scheduler, their checkpoints kept until the split is done."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from coldray.training.history import EpochRecord
from coldray.training.progress import TrainingListener, TrainingPlan


class EpochReports(TrainingListener):
    """Tells how many epochs of a training are done, and what the last one validates at."""

    def __init__(self, told: Callable[[int, float], None]) -> None:
        self._told = told
        self._metric: str | None = None

    def training_started(self, plan: TrainingPlan) -> None:
        """Learn what the training stops by."""
        self._metric = plan.metric

    def epoch_done(self, record: EpochRecord) -> None:
        """Report an epoch; one of a training on everything validates nothing."""
        if self._metric is not None and self._metric in record.metrics:
            self._told(record.epoch + 1, record.metrics[self._metric])


@contextmanager
def kept_checkpoints(folder: Path | None) -> Iterator[Path | None]:
    """Yield a folder for the checkpoints of a fit, or None where this node does not see the one it is to be in.

    It is removed when all is well.
    """
    if folder is None or not folder.parent.is_dir():
        yield None
        return
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
