"""What may be read of the past: clicks, and which of them were before a moment.

Notation used for shapes: m moments, n known clicks, I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.data.dataset import Dataset
from coldray.data.moments import Moments

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class KnownClicks:
    """What may be read of the past: clicks, in any order."""

    users: Places
    """``[n]``."""
    items: Places
    """``[n]``."""
    times: Floats
    """Seconds since 1970 ``[n]``, NaN where unknown, −∞ where no more is known than that it was before any moment."""
    ratings: Floats
    """``[n]``, NaN where there is none."""

    @classmethod
    def of(cls, dataset: Dataset, rows: Places, moments: Moments) -> KnownClicks:
        """Return those of a dataset's interactions that `rows` name, of their `moments`."""
        ratings = np.full(len(rows), np.nan) if dataset.ratings is None else dataset.ratings.data[rows]
        items = dataset.interactions.indices[rows].astype(np.intp)
        return cls(moments.users, items, moments.times, ratings.astype(np.float64))

    @classmethod
    def joined(cls, several: Sequence[KnownClicks]) -> KnownClicks:
        """Return the clicks of several, one after another."""
        none = np.zeros(0, np.intp), np.zeros(0)
        parts = [cls(none[0], none[0], none[1], none[1]), *several]
        names = ("users", "items", "times", "ratings")
        return cls(*(np.concatenate([getattr(one, name) for one in parts]) for name in names))

    @property
    def timed(self) -> bool:
        """Whether the time of any is known."""
        return bool(np.isfinite(self.times).any())

    @property
    def rated(self) -> bool:
        """Whether any has a rating."""
        return bool(np.isfinite(self.ratings).any())

    @cached_property
    def by_user(self) -> Places:
        """Places of clicks by user, and of a user by time ``[n]``."""
        return np.lexsort((self.times, self.users))

    def earlier(self, moments: Moments) -> tuple[Places, Places]:
        """Return where in :attr:`by_user` clicks of each moment's user begin, and where those before it end ``[m]``.

        Clicks of the same second are not before it, and one whose time is unknown is before no moment that has one.
        """
        users, times = self.users[self.by_user], self.times[self.by_user]
        begin = np.searchsorted(users, moments.users, side="left")
        end = np.searchsorted(users, moments.users, side="right")
        seconds, whole = np.unique(np.concatenate([times, moments.times]), return_inverse=True)
        width = len(seconds) + 1
        places, asked = whole[: len(times)], whole[len(times) :]
        before = np.searchsorted(users * width + places, moments.users * width + asked, side="left")
        return begin, np.where(np.isnan(moments.times), end, before)

    def items_before(self, moments: Moments, n_items: int) -> sp.csr_array:
        """Return what each moment's user had clicked before it of the first I items, float32 ``[m, I]``.

        The values are 1 for their first click, 2 for the second and so on.
        """
        begin, end = self.earlier(moments)
        ends = np.cumsum(end - begin)
        rows = np.repeat(np.arange(len(ends)), end - begin)
        place = np.arange(len(rows)) - np.repeat(ends - end, end - begin)
        items = self.items[self.by_user][place]
        kept = items < n_items
        numbers = (place - begin[rows] + 1).astype(np.float32)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=len(ends)))])
        return sp.csr_array((numbers[kept], items[kept], indptr), shape=(len(ends), n_items))


@dataclass(frozen=True, eq=False)
class RunningMeans:
    """Means of any run of clicks that are sorted: of a user's earlier ones, or an item's."""

    sums: Floats
    """Of the first 0, 1, … values, unknown ones left out ``[n + 1]``."""
    counts: Floats
    """How many of these are known ``[n + 1]``."""

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> RunningMeans:
        """Read the values of sorted clicks ``[n]``, NaN where unknown."""
        known = np.isfinite(values)
        return cls(_sums_up_to(np.where(known, values, 0)), _sums_up_to(known))

    def count(self, begin: Places, end: Places) -> Floats:
        """Return how many values of clicks from `begin` to before `end` are known."""
        return self.counts[end] - self.counts[begin]

    def mean(self, begin: Places, end: Places) -> Floats:
        """Return the mean of clicks from `begin` to before `end`, NaN where nothing is known."""
        count = self.count(begin, end)
        unknown: Floats = np.full(count.shape, np.nan)
        return np.divide(self.sums[end] - self.sums[begin], count, out=unknown, where=count > 0)


def _sums_up_to(values: npt.NDArray[Any]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


@dataclass(frozen=True, eq=False)
class PastRatings:
    """Ratings of any run of clicks that are sorted."""

    middle: float
    """What is subtracted from each rating, so that squares keep their digits."""
    rest: RunningMeans
    """Of ratings less the middle."""
    squares: RunningMeans
    """Of these, squared."""

    @classmethod
    def of(cls, ratings: Floats) -> PastRatings:
        """Read the ratings of sorted clicks ``[n]``, NaN where there is none."""
        known = ratings[np.isfinite(ratings)]
        middle = float(np.round(np.median(known))) if len(known) else 0.0
        return cls(middle, RunningMeans.of(ratings - middle), RunningMeans.of((ratings - middle) ** 2))

    def mean(self, begin: Places, end: Places) -> Floats:
        """Return the mean rating of clicks from `begin` to before `end`, NaN where there is none."""
        return self.rest.mean(begin, end) + self.middle

    def variance(self, begin: Places, end: Places) -> Floats:
        """Return the variance of ratings of clicks from `begin` to before `end`, NaN where there are fewer than two."""
        spread = self.squares.mean(begin, end) - self.rest.mean(begin, end) ** 2
        return np.where(self.rest.count(begin, end) > 1, np.maximum(spread, 0), np.nan)
