"""The trainings of a trial: their epochs told to a scheduler, their checkpoints kept until the split is done."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from coldray.training.history import EpochRecord
from coldray.training.progress import TrainingListener, TrainingPlan, watching
from coldray.training.trainer import keeping


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
def observed_training(told: Callable[[int, float], None] | None, checkpoints: Path | None) -> Iterator[None]:
    """Watch the trainings begun meanwhile.

    Parameters
    ----------
    told
        Called after each validated epoch, if given.
    checkpoints
        Where trainings go on from, if this node sees the folder it is to be in; it is removed when all is well.
    """
    with ExitStack() as stack:
        if told is not None:
            stack.enter_context(watching(EpochReports(told)))
        if checkpoints is not None and checkpoints.parent.is_dir():
            stack.enter_context(keeping(checkpoints))
        yield
    if checkpoints is not None:
        shutil.rmtree(checkpoints, ignore_errors=True)
