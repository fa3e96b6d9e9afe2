"""Distributions of ratings, at the values there are or, where these are many, in bins.

Notation used for shapes: v levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Ratings: TypeAlias = npt.NDArray[np.floating[Any]]
Double: TypeAlias = npt.NDArray[np.float64]

_MOST_VALUES = 21
"""Different ratings up to which each has a level of its own: 0 to 10 in halves."""
_BINS = 20
_WIDE = 1000.0
"""Positive ratings whose highest is so many times the lowest, such as counts of plays, get bins of equal ratio."""


@dataclass(frozen=True, eq=False)
class RatingLevels:
    """The values, or the bins of values, that ratings are counted at."""

    values: Double
    """Ascending, ``[v]``: the ratings there are, or where each bin begins."""
    edges: Double | None
    """Ends of the bins ``[v + 1]``; None where each value is a level."""

    def counts(self, ratings: Ratings) -> npt.NDArray[np.int64]:
        """Return the ratings at each level, int64 ``[v]``; all of them must be among those the levels are of."""
        doubles = ratings.astype(np.float64)
        if self.edges is None:
            places = np.searchsorted(self.values, doubles)
        else:
            places = np.clip(np.searchsorted(self.edges, doubles, side="right") - 1, 0, len(self.values) - 1)
        return np.bincount(places, minlength=len(self.values))


@dataclass(frozen=True)
class RatingFacts:
    """Ratings of a part."""

    mean: float
    std: float
    lowest: float
    highest: float
    counts: tuple[int, ...]
    """Ratings at each level."""


def rating_levels(ratings: Ratings) -> RatingLevels:
    """Return the levels of `ratings`, of which there is one at least."""
    values = np.unique(ratings).astype(np.float64)
    if len(values) <= _MOST_VALUES:
        return RatingLevels(values, None)
    low, high = float(values[0]), float(values[-1])
    wide = low > 0 and high / low > _WIDE
    edges = np.geomspace(low, high, _BINS + 1) if wide else np.linspace(low, high, _BINS + 1)
    return RatingLevels(edges[:-1], edges)


def rating_facts(ratings: Ratings, levels: RatingLevels) -> RatingFacts:
    """Return mean, spread and distribution of `ratings`, of which there is one at least."""
    return RatingFacts(
        mean=float(ratings.mean(dtype=np.float64)),
        std=float(ratings.std(dtype=np.float64)),
        lowest=float(ratings.min()),
        highest=float(ratings.max()),
        counts=tuple(levels.counts(ratings).tolist()),
    )
