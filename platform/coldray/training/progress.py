"""What a training tells those who watch it: the progress display, the tracking server."""

from __future__ import annotations

import time
from dataclasses import dataclass

from coldray.training.history import EpochRecord, TrainingResult

STEP_SECONDS = 0.5
"""Shortest time between two reports of a step; epochs are all reported."""


@dataclass(frozen=True)
class TrainingPlan:
    """What is about to be trained."""

    name: str
    """Name of the task."""
    metric: str | None
    """The validation metric; None where nothing is validated."""
    epochs: int
    """The most epochs there will be."""
    first_epoch: int
    """Where it begins: above 0 after a resume."""
    steps_per_epoch: int
    n_examples: int
    workers: int
    device: str


@dataclass(frozen=True)
class StepProgress:
    """How far an epoch is."""

    epoch: int
    """Number of the epoch, from 0."""
    step: int
    """Steps done in it."""
    steps_per_epoch: int
    loss: float
    """Mean loss of the step's batch."""
    learning_rate: float
    examples_per_second: float
    """Over all workers, since the epoch began or was resumed."""


class TrainingListener:
    """Receives every event of a training, in the process that called; each method does nothing unless overridden.

    With workers in other processes the calls come from a thread beside the calling one.
    """

    def training_started(self, plan: TrainingPlan) -> None:
        """Tell what will be trained; told again when workers were lost and replaced."""

    def step_done(self, progress: StepProgress) -> None:
        """Tell how far an epoch is; steps in quick succession are left out."""

    def epoch_done(self, record: EpochRecord) -> None:
        """Tell that an epoch ended; each is told once, even if lost workers made it run twice."""

    def training_ended(self, result: TrainingResult | None) -> None:
        """Tell that training ended; None means that it failed."""


class TrainingListeners(TrainingListener):
    """Several listeners, told in order."""

    def __init__(self, *listeners: TrainingListener) -> None:
        self.listeners = listeners

    def training_started(self, plan: TrainingPlan) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.training_started(plan)

    def step_done(self, progress: StepProgress) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.step_done(progress)

    def epoch_done(self, record: EpochRecord) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.epoch_done(record)

    def training_ended(self, result: TrainingResult | None) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.training_ended(result)


class RateLimit:
    """Says whether enough time has passed since it last said so."""

    def __init__(self) -> None:
        self.last = float("-inf")

    def passed(self) -> bool:
        """Return whether to speak now."""
        now = time.monotonic()
        if now - self.last < STEP_SECONDS:
            return False
        self.last = now
        return True
