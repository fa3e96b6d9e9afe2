"""The graph of users and items that is joined by known clicks, as it was at some times.

A graph at every moment would be as many graphs as clicks. It is looked at whenever the clicks have become half as many
again, so that what a moment reads lacks a third of the clicks before it at most, and when it is looked at is told by
what was before, too: what comes at a moment or later changes nothing that is read at it.

Notation used for shapes: n known clicks, s snapshots, u users and i items of one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.features.known_clicks import Floats, KnownClicks, Places

_FIRST, _GROWTH = 8, 1.5
"""How many clicks the first snapshot has, and by what the next one has more."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The graph at a time: whoever has clicked, and whatever was."""

    clicks: sp.csr_array
    """float64 ones ``[u, i]``; of no row and no column nothing is there."""
    users: Places
    """Who they are among all users ``[u]``, ascending."""
    items: Places
    """``[i]``, in the same way."""


@dataclass(frozen=True, eq=False)
class Snapshots:
    """When the graph is looked at."""

    ends: Floats
    """Times of the latest clicks of all snapshots but the last, ascending ``[s - 1]``; the last has all clicks."""

    @classmethod
    def of(cls, times: Floats) -> Snapshots:
        """Return those for clicks at some times ``[n]``, NaN where unknown."""
        known = np.sort(times[~np.isnan(times)])
        size, ends = _FIRST, []
        while size <= len(known):
            ends.append(known[size - 1])
            size = math.ceil(size * _GROWTH)
        return cls(np.unique(ends))

    def __len__(self) -> int:
        """Return s."""
        return len(self.ends) + 1

    def at(self, times: Floats) -> npt.NDArray[np.intp]:
        """Return which one moments read, -1 where there is none yet.

        It is the last one whose clicks are all before the moment, and that of all clicks for one whose time is unknown
        (NaN), which is after all that is known.
        """
        before = np.searchsorted(self.ends, times, side="left") - 1
        return np.where(np.isnan(times), len(self.ends), before)

    def graphs(self, known: KnownClicks) -> Iterator[Snapshot]:
        """Return them, from clicks of the times that these were made of."""
        for end in (*self.ends, np.nan):
            chosen = np.flatnonzero(np.isnan(end) | (known.times <= end))
            users, rows = np.unique(known.users[chosen], return_inverse=True)
            items, columns = np.unique(known.items[chosen], return_inverse=True)
            ones = np.ones(len(chosen))
            clicks = sp.csr_array((ones, (rows, columns)), shape=(len(users), len(items)))
            clicks.data[:] = 1
            yield Snapshot(clicks, users, items)


def degrees(clicks: sp.csr_array, axis: int) -> npt.NDArray[Any]:
    """Return how many clicks columns (0) or rows (1) have."""
    return np.asarray(clicks.sum(axis=axis), np.float64)
