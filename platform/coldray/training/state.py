"""Where a training is: its position, what it has found so far, and when it stops.

It ends with a result, or with an error that says where to go on from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from coldray.core.errors import CatalogTooLargeError, DivergedError
from coldray.training.config import TrainingConfig
from coldray.training.gradients import BatchSums
from coldray.training.history import EpochRecord, Reason, TrainingResult, Weights


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


_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
"""What torch says when memory runs out, of the CPU, of a GPU and of its libraries."""


def training_result(
    progress: Progress, best: Weights, workers: int, device: str, checkpoint: Path | None
) -> TrainingResult:
    """Return the result of a training that ended."""
    return TrainingResult(
        weights=dict(best),
        history=tuple(progress.history),
        best_epoch=progress.best_epoch,
        best_metric=progress.best_metric,
        reason=progress.reason or "epochs",
        workers=workers,
        device=device,
        checkpoint=checkpoint,
    )


@contextmanager
def told_of_memory(name: str, batch_size: int, n_workers: int, device: torch.device) -> Iterator[None]:
    """Raise :class:`~coldray.core.errors.CatalogTooLargeError` where torch runs out of memory.

    It raises a RuntimeError then, which would be taken for the loss of a worker, and tried again in vain.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = str(error)
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(one in said for one in _NO_MEMORY):
            raise
        where = "the GPU" if device.type == "cuda" else "this machine"
        workers = f"{n_workers} worker{'' if n_workers == 1 else 's'}"
        raise CatalogTooLargeError(
            f"{name}: a step with batch_size {batch_size} over {workers} takes more memory than {where} has "
            f"left ({said.splitlines()[0] if said else type(error).__name__}). Use a smaller batch_size or fewer "
            "dimensions, or more memory."
        ) from error


def diverged(description: str, checkpoint: Path | None) -> DivergedError:
    """Return the error of a training that diverged."""
    kept = f"The last good checkpoint is {checkpoint}." if checkpoint else "No checkpoint was kept before."
    return DivergedError(f"{description} {kept} Use a lower learning_rate, a warm-up, or clip_norm.")
