"""Where a training is: its position, what it has found so far, and when it stops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from coldray.training.config import TrainingConfig
from coldray.training.gradients import BatchSums
from coldray.training.history import EpochRecord, Reason


@dataclass
class Progress:
    """Everything of a training that is no tensor; it goes into a checkpoint as JSON."""

    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Steps done in the current epoch."""
    loss: float = 0.0
    """Sum of the loss over the examples of the current epoch so far."""
    parts: dict[str, float] = field(default_factory=dict)
    """Sums of the loss's named terms."""
    examples: int = 0
    """Examples of the current epoch so far."""
    seconds: float = 0.0
    """Time of the current epoch before the last resume."""
    history: list[EpochRecord] = field(default_factory=list)
    best_metric: float | None = None
    best_epoch: int = -1
    stale: int = 0
    """Validations since the best one."""
    reductions: int = 0
    """How often the plateau schedule has lowered the learning rate."""
    plateau: int = 0
    """Validations since the best one or the last reduction."""
    reason: Reason | None = None
    """Why it stopped; None while it goes on."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return what :func:`dataclasses.asdict` made a dictionary of."""
        return cls(**{**data, "history": [EpochRecord(**record) for record in data["history"]]})

    @property
    def position(self) -> tuple[int, int]:
        """Epochs done, and steps of the current one."""
        return self.epoch, self.step

    def add(self, sums: BatchSums, n_batch: int) -> None:
        """Count a step."""
        self.step += 1
        self.loss += sums.loss
        self.examples += n_batch
        for name, value in sums.parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + value

    def end_epoch(self, record: EpochRecord) -> None:
        """Go on to the next epoch."""
        self.history.append(record)
        self.epoch += 1
        self.step, self.loss, self.parts, self.examples, self.seconds = 0, 0.0, {}, 0, 0.0

    def judge(self, metric: float, config: TrainingConfig) -> bool:
        """Return whether a validation of the current epoch is the best so far; count those in a row that are not."""
        if self.best_metric is None or metric > self.best_metric + config.min_delta:
            self.best_metric, self.best_epoch = metric, self.epoch
            self.stale = self.plateau = 0
            return True
        self.stale += 1
        self.plateau += 1
        if config.schedule == "plateau" and self.plateau >= config.plateau_patience:
            self.reductions += 1
            self.plateau = 0
        return False

    def decide(self, config: TrainingConfig) -> None:
        """Find out whether to stop; asked after each epoch and after a resume, whose limits may be others."""
        if config.patience is not None and self.stale >= config.patience:
            self.reason = "patience"
        elif self.epoch >= config.epochs:
            self.reason = "epochs"
        else:
            self.reason = None
