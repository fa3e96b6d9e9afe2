"""How interactions spread over users, items and time.

Notation used for shapes: U users, I items, n interactions, p periods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.data.dataset import rows_of
from coldray.data.splits.parts import PART_WORDS, Parts

Counts: TypeAlias = npt.NDArray[np.int64]
Period: TypeAlias = Literal["day", "week", "month", "year"]

HEAT_BINS, HEAT_MEMBERS = 60, 5
"""Groups of users, and of items, of a heat map at most, and how many a group has at least."""
_TOP_SHARE = 0.01
"""The most active whose share of all interactions is told."""
_DAY = 86_400
_MOST_YEARS = 300
"""Times that span more are no seconds since 1970."""


@dataclass(frozen=True)
class Activity:
    """How many interactions each user, or each item, has; those without any are not counted."""

    counts: Counts
    """int64, descending: one entry a user or an item."""

    @property
    def median(self) -> float:
        """Interactions of the one in the middle."""
        return float(np.median(self.counts))

    @property
    def mean(self) -> float:
        """Mean number of interactions."""
        return float(self.counts.mean())

    @property
    def least(self) -> int:
        """Fewest interactions."""
        return int(self.counts[-1])

    @property
    def most(self) -> int:
        """Most interactions."""
        return int(self.counts[0])

    @property
    def singles(self) -> int:
        """How many have a single interaction."""
        return int((self.counts == 1).sum())

    @property
    def top_share(self) -> float:
        """Share of all interactions that the most active 1 % have, at least one of them."""
        top = max(1, round(_TOP_SHARE * len(self.counts)))
        return float(self.counts[:top].sum() / self.counts.sum())

    @property
    def gini(self) -> float:
        """Gini coefficient: 0 where all have as many, towards 1 where one has them all."""
        n = len(self.counts)
        ranks = np.arange(n, 0, -1)  # of ascending counts
        return float(2 * (ranks * self.counts).sum() / (n * self.counts.sum()) - (n + 1) / n)


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Density of the user × item cells, in groups of users and items from the most active to the least."""

    density: npt.NDArray[np.float64]
    """Share of the cells of a group that hold an interaction: a row a group of users, a column one of items."""
    n_users: int
    n_items: int


@dataclass(frozen=True, eq=False)
class Timeline:
    """Interactions a period, part by part."""

    period: Period
    edges: npt.NDArray[np.datetime64]
    """First day of each period, without gaps, and of the one after the last ``[p + 1]``."""
    counts: Counts
    """int64 ``[parts, p]``, parts as in :data:`~coldray.data.splits.parts.PART_WORDS`."""


def user_activity(clicks: sp.csr_array) -> Activity:
    """Return the interactions a user."""
    return _activity(np.diff(clicks.indptr))


def item_activity(clicks: sp.csr_array) -> Activity:
    """Return the interactions an item."""
    return _activity(np.bincount(clicks.indices))


def _activity(counts: npt.NDArray[Any]) -> Activity:
    return Activity(np.sort(counts[counts > 0].astype(np.int64))[::-1])


def heat_map(clicks: sp.csr_array, bins: int = HEAT_BINS, members: int = HEAT_MEMBERS) -> HeatMap:
    """Return the density of the cells in at most `bins` × `bins` groups of nearly the same size, `members` or more.

    Users and items without interactions are left out. Nothing of the size users × items is held.
    """
    user_groups, user_sizes = _groups(np.diff(clicks.indptr), bins, members)
    item_groups, item_sizes = _groups(np.bincount(clicks.indices, minlength=clicks.shape[1]), bins, members)
    cells = user_groups[rows_of(clicks)] * len(item_sizes) + item_groups[clicks.indices]
    counts = np.bincount(cells, minlength=len(user_sizes) * len(item_sizes))
    density = counts.reshape(len(user_sizes), len(item_sizes)) / np.outer(user_sizes, item_sizes)
    return HeatMap(density, int(user_sizes.sum()), int(item_sizes.sum()))


def _groups(counts: npt.NDArray[Any], bins: int, members: int) -> tuple[Counts, Counts]:
    """Return the group of each, the most active in group 0, and the sizes of the groups."""
    order = np.argsort(-counts, kind="stable")
    present = int((counts > 0).sum())
    n_groups = min(bins, max(1, present // members))
    groups = np.zeros(len(counts), np.int64)
    groups[order[:present]] = np.arange(present) * n_groups // present
    return groups, np.bincount(groups[order[:present]], minlength=n_groups)


def timeline(times: npt.NDArray[np.int64], parts: Parts) -> Timeline | None:
    """Return the interactions a day, week (from Monday), month or year (UTC), whichever the span is readable in.

    None where the times span more than 300 years: they are no seconds since 1970.
    """
    first, last = int(times.min()), int(times.max())
    years = (last - first) / (365.25 * _DAY)
    if years > _MOST_YEARS or max(abs(first), abs(last)) > 10_000 * 365 * _DAY:
        return None
    period: Period = "day" if years < 0.17 else "week" if years < 2 else "month" if years < 25 else "year"
    numbers = _periods(times, period)
    lowest = int(numbers.min())
    n_periods = int(numbers.max()) - lowest + 1
    counts = np.bincount(parts * np.int64(n_periods) + numbers - lowest, minlength=len(PART_WORDS) * n_periods)
    edges = _starts(np.arange(lowest, lowest + n_periods + 1), period)
    return Timeline(period, edges, counts.reshape(len(PART_WORDS), n_periods))


def _periods(times: npt.NDArray[np.int64], period: Period) -> Counts:
    """Return the number of the period of each time; 0 is the one with 1970-01-01 in it."""
    if period in ("day", "week"):
        days = times // _DAY
        return days if period == "day" else (days + 3) // 7  # 1970 began on a Thursday
    unit = "datetime64[M]" if period == "month" else "datetime64[Y]"
    return times.astype("datetime64[s]").astype(unit).astype(np.int64)


def _starts(numbers: Counts, period: Period) -> npt.NDArray[np.datetime64]:
    if period in ("day", "week"):
        days = numbers if period == "day" else 7 * numbers - 3
        return days.astype("datetime64[D]")
    return numbers.astype("datetime64[M]" if period == "month" else "datetime64[Y]").astype("datetime64[D]")
