"""Numbers → a value an item, with the unit its distances are measured in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Self

import numpy as np

from coldray.core.errors import DataFormatError, NotFittedError
from coldray.data.dataset import NumberAttribute
from coldray.data.tables.numbers import LARGEST
from coldray.features.feature_set import ScalarFeature


class ScalarEncoder:
    """Keep each number as it is; learn the span that makes distances comparable between attributes."""

    def __init__(self) -> None:
        self._span: float | None = None

    @property
    def span(self) -> float:
        """Largest minus smallest value seen in :meth:`fit`; positive.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        if self._span is None:
            raise NotFittedError("The scalar encoder has no span yet. Call fit, or from_state, first.")
        return self._span

    def fit(self, attribute: NumberAttribute) -> Self:
        """Learn the span of the known values; 1.0 where there is none (no value, or all equal).

        Parameters
        ----------
        attribute
            float64 ``[I]``, NaN where unknown; so is what is infinite, or beyond `LARGEST`.
        """
        known = attribute.values[np.abs(attribute.values) <= LARGEST]
        span = float(np.ptp(known)) if len(known) else 0.0
        self._span = span if span > 0 else 1.0
        return self

    def transform(self, attribute: NumberAttribute) -> ScalarFeature:
        """Return the values ``[I]`` with the fitted span; NaN stays NaN, and one beyond `LARGEST` becomes NaN."""
        known = np.abs(attribute.values) <= LARGEST
        return ScalarFeature(np.where(known, attribute.values, np.nan).astype(np.float64), self.span)

    def state(self) -> dict[str, Any]:
        """Return what :meth:`from_state` needs, as JSON values."""
        return {"span": self.span}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Restore a fitted encoder from :meth:`state`.

        Raises
        ------
        DataFormatError
            If the span is not a positive number.
        """
        encoder = cls()
        encoder._span = float(state["span"])
        if not (np.isfinite(encoder._span) and encoder._span > 0):
            raise DataFormatError(f"A scalar encoder's span must be positive and finite, not {encoder._span}.")
        return encoder


def read_numbers(values: Sequence[object], name: str, whose: str = "New item") -> NumberAttribute:
    """Return plain values, one a new item or user, as attribute `name`; None is unknown, as is NaN.

    Raises
    ------
    DataFormatError
        If a value is no number, infinite, or beyond `LARGEST`.
    """
    numbers = np.full(len(values), np.nan)
    for position, value in enumerate(values):
        # bool is an int to Python, but True is no year.
        if isinstance(value, Real) and not isinstance(value, bool) and not _is_beyond(value):
            numbers[position] = float(value)
        elif value is not None:
            raise DataFormatError(
                f"{whose} {position} (counted from 0): {name!r} must be an int or float of at most {LARGEST:g}, not "
                f"{value!r:.60} ({type(value).__name__})."
            )
    return NumberAttribute(numbers)


def _is_beyond(value: Any) -> bool:
    # Not by abs, which has no positive form of the least integer of a width.
    return bool(value > LARGEST or value < -LARGEST)
