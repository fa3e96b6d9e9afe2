"""How a training ends: with a result, or with an error that says where to go on from."""

from __future__ import annotations

from pathlib import Path

from coldray.errors import DivergedError
from coldray.training.history import TrainingResult, Weights
from coldray.training.state import Progress


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


def diverged(description: str, checkpoint: Path | None) -> DivergedError:
    """Return the error of a training that diverged."""
    kept = f"The last good checkpoint is {checkpoint}." if checkpoint else "No checkpoint was kept before."
    return DivergedError(f"{description} {kept} Use a lower learning_rate, a warm-up, or clip_norm.")
