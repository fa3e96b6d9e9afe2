"""What a training tells those who watch it: the progress display, the tracking server."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

from coldray.training.history import EpochRecord, TrainingResult

_STEP_SECONDS = 0.5
"""Shortest time between two reports of a step; epochs are all reported."""


@dataclass(frozen=True)
class TrainingPlace:
    """Which training it is, among all those of a study."""

    what: str = "training"
    """What is fitted, such as ``trial 3`` or ``bundle``."""
    trial: int | None = None
    """The number of the trial, if it is of one."""
    fold: str = ""
    """What it is fitted on, such as ``seed 42 / split 0``; nothing where that is everything."""
    task: str = ""
    """The name of the task, which tells the networks of one fit from one another."""
    nth: int = 0
    """How many trainings of the same task came before: one that follows refits on what the first held out."""

    @classmethod
    def of_trial(cls, number: int, fold: str) -> Self:
        """Return the first training of a trial on a fold."""
        return cls(f"trial {number}", number, fold)

    @property
    def words(self) -> str:
        """What is trained, in words."""
        trained = " on ".join(filter(None, (self.task, self.fold)))
        return ", ".join(filter(None, (self.what, trained, "refit" if self.nth else "")))


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
    history: tuple[EpochRecord, ...] = ()
    """The epochs before the resume."""
    n_parameters: int = 0
    """Numbers that are trained."""


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


class ParameterCount(TrainingListener):
    """Counts the numbers that the trainings of one fit train, those of a refit once."""

    def __init__(self) -> None:
        self._of_tasks: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Over all tasks; 0 where nothing was trained."""
        return sum(self._of_tasks.values())

    def training_started(self, plan: TrainingPlan) -> None:
        """Count."""
        self._of_tasks[plan.name] = plan.n_parameters


class RateLimit:
    """Says whether enough time has passed since it last said so."""

    def __init__(self) -> None:
        self.last = float("-inf")

    def passed(self) -> bool:
        """Return whether to speak now."""
        now = time.monotonic()
        if now - self.last < _STEP_SECONDS:
            return False
        self.last = now
        return True
