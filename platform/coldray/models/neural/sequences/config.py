"""The parameters of SASRec."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from coldray.core.errors import ConfigError
from coldray.models.neural.base import NeuralConfig


class SASRecConfig(NeuralConfig):
    """Parameters of `SASRec`; some of those of the training have other defaults.

    `validation_share` 0 holds nothing out; any other holds out the last click of `validation_users`.
    """

    objective: Literal["next", "masked"] = "next"
    """``next``: each click from those before it, as SASRec does. ``masked``: clicks left out by chance, from those
    before and after, as BERT4Rec does."""
    loss: Literal["softmax", "gbce"] = "softmax"
    """``softmax``: cross-entropy over the items that compete. ``gbce``: binary cross-entropy with many negatives, the
    probability of the click raised to a power that makes up for how few they are, as gSASRec does."""
    n_negatives: PositiveInt | None = None
    """Items that a click is told from: so many with clicks, drawn for each step; what a user has clicked is left out.
    None takes all of them, which is best but slow for many."""
    calibration: float = Field(default=0.75, ge=0, le=1)
    """t of ``gbce``: 0 is plain binary cross-entropy, whose scores are too sure; 1 makes up for all that sampling adds.
    Without effect on ``softmax``."""
    mask_share: float = Field(default=0.3, gt=0, lt=1)
    """Share of the clicks of a session that ``masked`` leaves out; of as large a share of the sessions the last one
    alone, as lists are asked for that. Without effect on ``next``."""
    max_length: PositiveInt = 50
    """Clicks of a session that are read, the last ones."""
    embedding_dim: PositiveInt = 64
    """d, dimensions of the vectors of items."""
    n_layers: PositiveInt = 2
    """Blocks of self-attention."""
    n_heads: PositiveInt = 2
    """Heads of each; d must be a multiple of them."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the inputs and of what each block adds left out in training."""
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the items whose own vector a step leaves out, as that of a new item is missing. Without effect where
    nothing is known of items but their clicks; 0 learns less for new items."""
    learning_rate: PositiveFloat = 2e-3
    batch_size: PositiveInt = 128
    """Sessions of a step over all workers together; all of them where there are fewer."""
    clip_norm: PositiveFloat | None = 5.0
    schedule: Literal["constant", "cosine", "restarts", "plateau"] = "cosine"
    epochs: PositiveInt = 20
    patience: PositiveInt | None = 4
    validation_users: PositiveInt = 5000
    """Users that are asked about at most after an epoch; the next click is one item of all, so a few say little."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.embedding_dim % self.n_heads:
            raise ConfigError(
                f"embedding_dim is {self.embedding_dim}, which {self.n_heads} heads do not divide. Use a multiple of "
                f"n_heads, such as {(self.embedding_dim // self.n_heads + 1) * self.n_heads}, or other n_heads."
            )
        return self
