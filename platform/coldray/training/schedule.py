"""The learning rate at every step."""

from __future__ import annotations

import math

from coldray.training.config import TrainingConfig


def warmup_steps(config: TrainingConfig, epoch_steps: int) -> int:
    """Return over how many steps the learning rate rises."""
    return math.ceil(config.warmup_epochs * epoch_steps)


def learning_rate(config: TrainingConfig, step: int, epoch_steps: int, reductions: int = 0) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    step
        Number of the step in the whole training, from 0.
    epoch_steps
        Steps of an epoch.
    reductions
        How often the plateau schedule has lowered the rate so far.

    Notes
    -----
    With W steps of warm-up out of T: step ``s < W`` has ``(s + 1) / W`` of the full rate, so that no step is wasted on
    a rate of zero. A cosine has ``(1 + cos(π (s - W) / (T - W))) / 2`` of it.
    """
    warmup = warmup_steps(config, epoch_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "cosine":
        done = (step - warmup) / (config.epochs * epoch_steps - warmup)
        return config.learning_rate * (1 + math.cos(math.pi * min(done, 1.0))) / 2
    if config.schedule == "plateau":
        return config.learning_rate * config.plateau_factor**reductions
    return config.learning_rate
