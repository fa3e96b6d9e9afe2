"""How central who asks is in the graph of users and items: PageRank, from the clicks before a moment.

Notation used for shapes: m moments, s snapshots, I items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.features.graph.measures import DAMPING, page_ranks
from coldray.features.graph.snapshots import Snapshots, degrees
from coldray.features.known_clicks import Floats, KnownClicks
from coldray.features.moment_words import Past

PAGERANK = "pagerank"
"""The word for it."""


@dataclass(frozen=True, eq=False)
class UserRanks:
    """PageRank of whoever has clicked something, whether the fit knew them or not.

    PageRank solves ``r_u = (1 - α) / N + α Σ_i r_i / d_i`` over the items i that u has clicked, of d_i users each, with
    N nodes and α the damping. Read as of a moment, the items are those clicked before it, and their ranks those of the
    snapshot.
    """

    snapshots: Snapshots
    passed: npt.NDArray[np.float32]
    """``N α r_i / d_i`` ``[s, I]``, what an item passes on to each of its users; 0 where nobody had clicked it."""

    @classmethod
    def of(cls, known: KnownClicks, n_items: int) -> UserRanks:
        """Read known clicks of I items.

        Raises
        ------
        MissingExtraError
            If the extra ``graph`` is not installed.
        """
        snapshots = Snapshots.of(known.times)
        passed = np.zeros((len(snapshots), n_items), np.float32)
        for row, graph in zip(passed, snapshots.graphs(known), strict=True):
            if len(graph.items):
                ranks = page_ranks(graph.clicks)[1]
                row[graph.items] = sum(graph.clicks.shape) * DAMPING * ranks / degrees(graph.clicks, 0)
        return cls(snapshots, passed)

    def values(self, past: Past) -> Floats:
        """Return the log of PageRank over the mean one ``[m]``, NaN before the first snapshot.

        It is NaN of those, too, who have clicked nothing that is in the snapshot.
        """
        begin, end = past.bounds
        items = np.minimum(past.known.items[past.known.by_user], self.passed.shape[1])
        reads = self.snapshots.at(past.times)
        found = np.full(len(reads), np.nan)
        for place in np.unique(reads[reads >= 0]):
            received = np.append(self.passed[place], 0).astype(np.float64)[items]  # from items of later: nothing
            sums, chosen = np.concatenate([[0.0], np.cumsum(received)]), reads == place
            # The counts say exactly where nothing is received, which sums of floats do not.
            counts = np.concatenate([[0], np.cumsum(received > 0)])
            total, some = (one[end[chosen]] - one[begin[chosen]] for one in (sums, counts))
            found[chosen] = np.where(some > 0, np.log(1 - DAMPING + np.maximum(total, 0)), np.nan)
        return found

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return arrays by name, for :meth:`from_state`."""
        return {"ends": self.snapshots.ends, "passed": self.passed}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> UserRanks:
        """Restore it."""
        return cls(Snapshots(state["ends"]), state["passed"])
