"""Parameters of the context-aware rankers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from coldray.models.neural.base import NeuralConfig


class FMConfig(NeuralConfig):
    """Parameters of :class:`~coldray.models.neural.ranking.model.FM`; some have other defaults.

    The other rankers have them, too.
    """

    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: PositiveFloat = 3e-3
    weight_decay: NonNegativeFloat = 1e-2
    batch_size: PositiveInt = 1024
    """Clicks of a step over all workers together; all of them where there are fewer."""
    epochs: PositiveInt = 30
    patience: PositiveInt | None = 3
    embedding_dim: PositiveInt = 32
    """d, dimensions of the vector of a feature."""
    history: PositiveInt = 50
    """The most clicks before a click that it is learned from, the last ones."""
    history_power: float = Field(default=0.5, ge=0, le=1)
    """What the features of a history of n clicks are worth, n to the power of minus this: 1 is their mean."""
    loss: Literal["pointwise", "pairwise"] = "pointwise"
    """``pointwise``: the cross-entropy of clicks and drawn items. ``pairwise``: that a click is above each of these."""
    negatives: PositiveInt = 4
    """Items without a click of the user that are drawn for each click."""
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the items whose own feature is left out in training, as that of a new item is missing."""
    context_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the clicks whose moment is left out in training, and of those whose user's attributes are, as nothing
    may be known of who asks."""
    stop_by: Literal["last", "clicks", "items"] = "last"
    """What is held out to stop by: the last click of each user, where times are known, or clicks by chance, or all
    clicks of some items, as if these were new."""


class DeepFMConfig(FMConfig):
    """Parameters of :class:`~coldray.models.neural.ranking.model.DeepFM`."""

    embedding_dim: PositiveInt = 16
    """d, dimensions of the vector of a feature."""
    hidden_dim: PositiveInt = 64
    """Units of each hidden layer."""
    n_layers: int = Field(default=2, ge=1, le=8)
    """Hidden layers over the fields side by side."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the hidden units left out in training."""


class DCNConfig(DeepFMConfig):
    """Parameters of :class:`~coldray.models.neural.ranking.model.DCN`."""

    cross_layers: int = Field(default=2, ge=1, le=8)
    """L: the crosses are of products of L + 1 features at most."""
    cross_rank: PositiveInt | None = None
    """Rank of the matrix of a cross layer; null for a full one, of all fields by all fields."""
