"""What a training leaves behind: a record of each epoch, and the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:  # whoever hears of a training need not load torch
    import torch

Reason: TypeAlias = Literal["epochs", "patience"]
Weights: TypeAlias = "Mapping[str, torch.Tensor]"


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of all workers."""

    epoch: int
    """Number of the epoch, from 0."""
    loss: float
    """Mean loss over all examples, each computed when its batch came up."""
    parts: Mapping[str, float]
    """Means of the loss's named terms."""
    metrics: Mapping[str, float]
    """Validation metrics, means over all users; empty where the epoch did not end with a validation."""
    learning_rate: float
    """That of the last step."""
    examples_per_second: float
    """Training throughput over all workers, without the validation."""
    seconds: float
    """Time of the epoch, with the validation."""


@dataclass(frozen=True)
class TrainingResult:
    """What was learnt, and how."""

    weights: Weights
    """The best weights by the validation metric, on the CPU; the last ones where nothing is validated."""
    history: tuple[EpochRecord, ...]
    """One record an epoch, those before a resume included."""
    best_epoch: int
    """Number of the epoch the weights are from."""
    best_metric: float | None
    """Validation metric of those weights; None where nothing is validated."""
    reason: Reason
    """Why it stopped: ``epochs`` were all trained, or ``patience`` ran out."""
    workers: int
    """How many workers trained."""
    device: str
    """Where: ``cpu`` or ``cuda``."""
    checkpoint: Path | None
    """The last checkpoint; None where none was kept."""
