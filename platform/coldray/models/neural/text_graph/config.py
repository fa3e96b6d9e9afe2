"""The parameters of the text + graph recommender."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from coldray.models.neural.base import NeuralConfig

MOST_TEXTS = 10
"""Texts of an item besides its overview."""
_RELEASE_CONTEXT = ("year", "runtime")
"""Numbers of an item that are known before anybody has clicked it."""


class TextGraphConfig(NeuralConfig):
    """Parameters of `TextGraph`; some of the training have other defaults here."""

    heads: PositiveInt = 4
    """Heads of every multi-head attention."""
    head_dim: PositiveInt = 16
    """Dimensions of a head; an item has ``heads · head_dim`` of them."""
    overview: str = "overview"
    """The text attribute that tells most of an item; where it is not embedded, the first one that is takes its place.
    All other embedded texts, ten at most, are pooled."""
    text_dim: PositiveInt | None = None
    """Width that text embeddings must have; None takes whatever they have."""
    known_before_release: tuple[str, ...] = ()
    """Numbers that describe an item besides ``year`` and ``runtime``. Budget, revenue or votes would tell how popular a
    film became: name them only where they are known before anybody has clicked it."""
    buckets: PositiveInt = 20
    """Buckets of each number, of equally many warm items each."""
    rating_embedding: bool = False
    """Tell the ratings of a history apart. Clicks must come with ratings; one without, in a history, counts as it would
    without this."""
    time_buckets: NonNegativeInt = 0
    """Tell apart how many clicks ago a click of a history was, in so many buckets that double in width; 0 does not.
    Clicks must come with their times."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of units left out in training: of what an item is described by, and of the score's hidden layer."""
    hidden_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of a history that is masked in training, besides the clicks to be predicted."""
    targets: PositiveInt = 32
    """Clicks of a user predicted at once; a quarter of them at most, so that a history is left. A batch has so many
    times more clicks than examples."""
    negatives: PositiveInt = 32
    """Items a user has not clicked, that each of these clicks is to score above."""
    negatives_kind: Literal["uniform", "popularity", "hard"] = "uniform"
    """How they are drawn; see :class:`~coldray.training.negatives.NegativesConfig`."""
    contrast_weight: NonNegativeFloat = 0.1
    """Weight of the InfoNCE that has the two views of a user find each other."""
    temperature: PositiveFloat = 0.2
    """Temperature of the InfoNCE."""
    graph: Literal["auto", "whole", "sampled"] = "auto"
    """A step goes over the ``whole`` graph, or over ``sampled`` neighbours, which is an approximation. ``auto`` samples
    where `neighbours` are given or the whole graph of the largest fit of a study does not fit in memory."""
    neighbours: PositiveInt | None = None
    """Neighbours sampled for each node of the graph and each kind of edge in a step; 16 by default."""

    stop_by: Literal["items", "clicks"] = "items"
    """What is held out to stop by: all clicks of some items, as if these were new, or single clicks."""
    batch_size: PositiveInt = 256
    """Users, with some of their clicks each, of a step over all workers together."""
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-3
    clip_norm: PositiveFloat | None = 5.0
    epochs: PositiveInt = 8
    patience: PositiveInt | None = 2

    @property
    def dim(self) -> int:
        """Dimensions d of an item and of a user."""
        return self.heads * self.head_dim

    @property
    def context(self) -> tuple[str, ...]:
        """Numbers that may describe an item."""
        return _RELEASE_CONTEXT + tuple(name for name in self.known_before_release if name not in _RELEASE_CONTEXT)
