"""What is asked of the service and what it answers, whatever the transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from coldray.bundle.lists import Candidates, ListOrigin, Place

ItemId: TypeAlias = str | int
UserId: TypeAlias = str | int
ExplorationMethod: TypeAlias = Literal["linucb", "thompson"]
"""How items are tried out: :mod:`coldray.serving.exploration.explore`."""


@dataclass(frozen=True)
class Condition:
    """What an attribute of an item must be."""

    any: tuple[str, ...] | None = None
    """Labels of which the item has one at least."""
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class Query:
    """One list that is asked for."""

    k: int = 10
    user_id: UserId | None = None
    history: Mapping[ItemId, float | None] | None = None
    """Items, with ratings where there are any; in the place of what is known of the user."""
    profile: Mapping[str, object] | None = None
    """Attributes of the user; in the place of what is known of them."""
    context: Mapping[str, object] | None = None
    """What is known of the moment, by column, and ``time``; that is now unless it is given."""
    exclude: tuple[ItemId, ...] = ()
    candidates: Candidates = "all"
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    """By attribute; an item must meet all of them."""
    diversity: float = 0.0
    """0 orders by score alone, 1 by how little an item is like those before it."""
    explore: bool = True
    """Whether items may be tried out, where the service does so."""
    draw: int | None = None
    """The number of the random draw by which they are; the next one if None."""


@dataclass(frozen=True)
class Answer:
    """A list and how it came to be."""

    places: tuple[Place, ...]
    path: ListOrigin
    history: Mapping[int, float | None]
    """What the list was made from: the index of each item of the user's history, and their rating."""
    unknown_context: tuple[str, ...] = ()
    """Columns of context that the model reads, and that the query did not have."""
    exploration: ExplorationMethod | None = None
    """By what items were tried out; None if the list has the order of the scores."""


def plain(value: Any) -> Any:
    """Return a numpy scalar as the Python value it holds."""
    return value.item() if hasattr(value, "item") else value
