"""Numbers of items, users and contexts that can hardly be: ages that nobody has, and values far beyond all others.

They are told, not changed. Models compare numbers by their distance in units of the range of all, so that one age of
1,900 makes all others look alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from coldray.data.dataset import Dataset, NumberAttribute
from coldray.data.moments import contexts_of

_LIVES: tuple[tuple[str, tuple[float, float]], ...] = (
    (r"(^|[_\W])(ages?)($|[_\W])", (0, 120)),
    (r"(^|[_\W])(birth_?year|year_?of_?birth|born|yob)($|[_\W])", (1880, 2100)),
)
"""Names of numbers of people, and from where to where they are what they say."""
_FEWEST = 20
"""Known values, below which none is called far from all others."""
_OUTERMOST = 100
"""One in so many is looked at on either side, one at least."""
_FARTHER = 10
"""How many times as wide all values together lie as they do without the outermost, to be told."""


def implausible_numbers(dataset: Dataset) -> Iterator[str]:
    """Yield a sentence for each number of items, users or contexts that has values which can hardly be.

    They are ages below 0 or above 120 and years of birth before 1880 or after 2100, of users, by the names of the
    columns; and of any number the outermost hundredth on either side, where all values lie ten times as wide apart as
    they do without it.
    """
    contexts = contexts_of(dataset)
    sides = (("items", dataset.attributes), ("users", dataset.user_attributes), ("interactions", contexts))
    for noun, attributes in sides:
        for name, attribute in attributes.items():
            if isinstance(attribute, NumberAttribute):
                known = attribute.values[np.isfinite(attribute.values)]
                ends = _ends_of_life(name) if noun == "users" else None
                told = _beyond(known, ends, noun) if ends is not None else ""
                if told := told or _far(known, noun):
                    yield f"{'Context' if noun == 'interactions' else 'Attribute'} {name!r}: {told}"


def _ends_of_life(name: str) -> tuple[float, float] | None:
    return next((ends for pattern, ends in _LIVES if re.search(pattern, name, re.IGNORECASE)), None)


def _beyond(known: npt.NDArray[np.float64], ends: tuple[float, float], noun: str) -> str:
    """Return how many values are not from one end to the other, in words; nothing where all are."""
    odd = np.unique(known[(known < ends[0]) | (known > ends[1])])
    count = int(np.isin(known, odd).sum())
    return (
        f"{count:,} of {len(known):,} {noun} have one beyond {ends[0]:g} to {ends[1]:g}{_such_as(odd)}" if count else ""
    )


def _far(known: npt.NDArray[np.float64], noun: str) -> str:
    """Return which values are far from all others, in words; nothing where none is."""
    if len(known) < _FEWEST:
        return ""
    outermost = max(1, len(known) // _OUTERMOST)
    ordered = np.sort(known)
    low, high = ordered[outermost], ordered[-outermost - 1]
    if not 0 < _FARTHER * (high - low) < ordered[-1] - ordered[0]:
        return ""
    odd = known[(known < low - (high - low)) | (known > high + (high - low))]
    rest = f"the others lie from {low:g} to {high:g}"
    return f"{len(odd):,} of {len(known):,} {noun} are far from the others{_such_as(np.unique(odd), rest)}"


def _such_as(odd: npt.NDArray[np.float64], more: str = "") -> str:
    first = ", ".join(f"{value:g}" for value in odd[:3])
    return f" ({first}{', …' if len(odd) > 3 else ''}){'; ' + more if more else ''}."
