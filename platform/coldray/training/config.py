"""How a model is trained: the parameters every gradient-trained model shares."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


class TrainingConfig(BaseModel):
    """Parameters of a training; a model's configuration inherits them, so names are flat and can be searched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    optimizer: Literal["adam", "adamw"] = "adam"
    """``adam`` adds the weight decay to the gradient, ``adamw`` takes it off the weights."""
    learning_rate: PositiveFloat = 1e-3
    """The largest learning rate: what the warm-up ends at and the schedule begins with."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of the optimizer."""
    clip_norm: PositiveFloat | None = None
    """Largest norm of the gradient over all parameters; None leaves it as it is."""
    l1: NonNegativeFloat = 0.0
    """L1 penalty: after each step every weight comes this much times the learning rate nearer to zero, and stays there
    once it is (the soft threshold of proximal gradient descent)."""
    schedule: Literal["constant", "cosine", "restarts", "plateau"] = "constant"
    """After the warm-up: the same rate, half a cosine down to zero at the last step, such cosines one after another
    (warm restarts, Loshchilov & Hutter, ICLR 2017, Eq. 5), or `plateau_factor` times the rate whenever
    `plateau_patience` validations in a row are no better."""
    restart_epochs: PositiveFloat = 10.0
    """Epochs of the first cosine of the schedule ``restarts``. A `patience` below it may end a training in a dip."""
    restart_factor: float = Field(default=2.0, ge=1)
    """How many times as long as the one before each next cosine of ``restarts`` is."""
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    """What the plateau schedule multiplies the learning rate by."""
    plateau_patience: PositiveInt = 2
    """Validations without improvement after which the plateau schedule lowers the rate."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs, fractions included, over which the learning rate rises linearly from near zero."""
    batch_size: PositiveInt = 1024
    """Examples of a step over all workers together; each worker takes its share."""
    epochs: PositiveInt = 100
    """The most epochs there will be."""
    patience: PositiveInt | None = 5
    """Validations without improvement after which training stops; None trains for all epochs."""
    min_delta: NonNegativeFloat = 0.0
    """By how much the metric must exceed the best so far to count as an improvement."""
    validate_every: PositiveInt = 1
    """Epochs from one validation to the next; the last epoch always ends with one."""
    seed: NonNegativeInt = 0
    """Seed of the first weights, the order of the examples, dropout and what batches draw."""
