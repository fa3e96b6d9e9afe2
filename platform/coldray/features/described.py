"""What attributes are read from, and what encodes one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, Self

from coldray.data.dataset import Attribute
from coldray.features.feature_set import Feature


class Encoder(Protocol):
    """What learns one attribute's vocabulary and encodes items with it; it accepts one kind of attribute."""

    def fit(self, attribute: Any) -> Self:
        """Learn from the dataset's items; a second fit forgets the first."""

    def transform(self, attribute: Any) -> Feature:
        """Encode any items."""

    def state(self) -> dict[str, Any]:
        """Return arrays of numbers and JSON values only, for :meth:`from_state`."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Restore a fitted encoder."""


class Described(Protocol):
    """What attributes are read from: a dataset, or the moments of its clicks."""

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        """By name."""

    @property
    def default_attributes(self) -> tuple[str, ...]:
        """Those that are read unless others are named."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How they came to be."""

    def check_attributes(self, names: Iterable[str]) -> None:
        """Raise :class:`UnknownAttributeError` for the first name there is not."""
