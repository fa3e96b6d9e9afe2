"""How a training ends: with a result, or with an error that says where to go on from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from coldray.core.errors import CatalogTooLargeError, DivergedError
from coldray.training.config import TrainingConfig
from coldray.training.history import TrainingResult, Weights
from coldray.training.state import Progress

NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
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
def told_of_memory(name: str, config: TrainingConfig, device: torch.device) -> Iterator[None]:
    """Raise :class:`~coldray.core.errors.CatalogTooLargeError` where torch runs out of memory.

    It raises a RuntimeError then, which would be taken for the loss of a worker, and tried again in vain.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = str(error)
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(one in said for one in NO_MEMORY):
            raise
        where = "the GPU" if device.type == "cuda" else "this machine"
        workers = f"{config.workers} worker{'' if config.workers == 1 else 's'}"
        raise CatalogTooLargeError(
            f"{name}: a step with batch_size {config.batch_size} over {workers} takes more memory than {where} has "
            f"left ({said.splitlines()[0] if said else type(error).__name__}). Use a smaller batch_size or fewer "
            "dimensions, or more memory."
        ) from error


def diverged(description: str, checkpoint: Path | None) -> DivergedError:
    """Return the error of a training that diverged."""
    kept = f"The last good checkpoint is {checkpoint}." if checkpoint else "No checkpoint was kept before."
    return DivergedError(f"{description} {kept} Use a lower learning_rate, a warm-up, or clip_norm.")
