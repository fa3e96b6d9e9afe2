"""One guess: what a column is for, why, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Use: TypeAlias = Literal["user", "item", "rating", "timestamp", "event", "context", "labels", "number", "text"]


@dataclass(frozen=True)
class Guess:
    """What a column is for."""

    column: str
    use: Use | None
    """None if it is left out."""
    reason: str
    """A clause, such as ``named so``."""
    sure: bool = True
    separator: str | None = None
    """What divides labels in a text."""
    middle: float | None = None
    """The middle of the scale of a rating that somebody gave."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """What each kind of event may be worth."""
