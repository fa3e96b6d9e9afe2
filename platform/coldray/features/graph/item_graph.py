"""Features of items at a moment from the graph of users and items: by themselves, and from what who asks had clicked.

All but PageRank belong to an item, a time and the clicks before it together: how often a walk from these clicks comes
to the item, how near it is to them, how many of those who clicked alike clicked it, and how many are of its community.

Notation used for shapes: b who ask, w items of each, s snapshots, I items, U users, c communities, f features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.features.graph.measures import communities, cosines, page_ranks, walks
from coldray.features.graph.snapshots import Snapshot, Snapshots, degrees
from coldray.features.known_clicks import Floats, KnownClicks, Places

ITEM_PAGERANK, WALK, COMMUNITY = "item_pagerank", "item_walk", "item_community"
NEIGHBOURS, USERS = "item_neighbours", "user_neighbours"
GRAPH_WORDS = (ITEM_PAGERANK, WALK, NEIGHBOURS, COMMUNITY, USERS)
"""The words of `moment_features.attributes` that this module makes a number of each."""
PAIR_WORDS = (WALK, NEIGHBOURS, COMMUNITY, USERS)
"""Those that are read of the clicks of who asks, too."""
_WALKED, _NEAREST = 100, 50
"""Items that walks from an item, and its cosines, are kept of."""
_ALIKE, _RECENT = 50, 20
"""Users who clicked most alike, and the latest clicks by which they are found."""
_BLOCK = 1 << 22
"""Numbers of all items, or users, that are held at once."""


@dataclass(frozen=True)
class _Asked:
    """Who asks at which snapshots, some at a time."""

    reads: Places
    """``[b]``, all of them at a snapshot."""
    items: Places
    """``[b, w]``, those beyond the known ones 0."""
    clicked: sp.csr_array
    """The clicks before, that the snapshot has anything of: ones ``[b, s I]``, a column a snapshot and item."""
    recent: sp.csr_array
    """The latest of them, in the same way."""

    @property
    def counts(self) -> Places:
        """How many clicks there are of each ``[b, 1]``."""
        counts: Places = np.diff(self.clicked.indptr)[:, None].astype(np.intp)
        return counts


class ItemGraph:
    """Features of items at moments, from the graph of the clicks before.

    An item beyond the I known ones, or without clicks in the snapshot, has none.

    Parameters
    ----------
    words
        Some of :data:`GRAPH_WORDS`, in order.
    snapshots
        When the graph was looked at.
    arrays
        What was measured then, by name: see :meth:`state`.
    """

    def __init__(self, words: Iterable[str], snapshots: Snapshots, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.words, self.snapshots = tuple(words), snapshots
        self._arrays = dict(arrays)
        self._there: npt.NDArray[np.uint8] = self._arrays["there"]  # [s, I]

    @classmethod
    def of(cls, known: KnownClicks, n_items: int, words: Iterable[str]) -> ItemGraph:
        """Read known clicks of I items for the features that `words` name.

        Raises
        ------
        CatalogTooLargeError
            If walks are asked for, and do not fit in memory.
        MissingExtraError
            If PageRank or communities are, and the extra ``graph`` is not installed.
        """
        words, snapshots = tuple(words), Snapshots.of(known.times)
        size = (len(snapshots), n_items)
        arrays: dict[str, npt.NDArray[Any]] = {"there": np.zeros(size, np.uint8)}
        if ITEM_PAGERANK in words:
            arrays["ranks"] = np.full(size, np.nan, np.float32)
        if COMMUNITY in words:
            arrays["groups"] = np.full(size, -1, np.int32)
        n_users = int(known.users.max(initial=0)) + 1
        links: dict[str, list[sp.csr_array]] = {word: [] for word in words if word in (WALK, NEIGHBOURS, USERS)}
        for place, graph in enumerate(snapshots.graphs(known)):
            there = graph.items
            arrays["there"][place, there] = 1
            if ITEM_PAGERANK in words and len(there):
                arrays["ranks"][place, there] = np.log(sum(graph.clicks.shape) * page_ranks(graph.clicks)[1])
            if COMMUNITY in words and len(there):
                arrays["groups"][place, there] = communities(graph.clicks)
            for word, parts in links.items():
                parts.append(_links(word, graph, n_items, n_users))
        for word, parts in links.items():
            whole = sp.csr_array(sp.vstack(parts, format="csr"))
            columns = np.array(whole.shape[1:])
            arrays |= {f"{word}.indptr": whole.indptr, f"{word}.indices": whole.indices, f"{word}.columns": columns}
            arrays[f"{word}.data"] = whole.data
        return cls(words, snapshots, arrays)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return arrays of numbers by name, for :meth:`from_state`."""
        words = np.frombuffer(" ".join(self.words).encode(), np.uint8)
        return {"words": words, "ends": self.snapshots.ends, **self._arrays}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> ItemGraph:
        """Return what :meth:`state` is of."""
        words = state["words"].astype(np.uint8).tobytes().decode().split()
        arrays = {name: values for name, values in state.items() if name not in ("words", "ends")}
        return cls(words, Snapshots(state["ends"]), arrays)

    def values(
        self, items: npt.NDArray[np.integer[Any]], times: Floats, earlier: sp.csr_array
    ) -> npt.NDArray[np.float32]:
        """Return features of items for those who ask.

        Parameters
        ----------
        items
            Indices ``[b, w]``, or the same ``[w]`` of all.
        times
            Of the moments ``[b]``, seconds since 1970, NaN where unknown.
        earlier
            What who asks had clicked before the moment ``[b, I]``, of any number of items; the values are 1 for the
            first click, 2 for the second and so on.

        Returns
        -------
        ndarray
            float32 ``[b, w, f]``, NaN where nothing is known.
        """
        reads, n_items = self.snapshots.at(times), self._there.shape[1]
        wanted = np.broadcast_to(items, (len(reads), np.shape(items)[-1])).astype(np.intp)
        known = (wanted >= 0) & (wanted < n_items) & (reads >= 0)[:, None]
        places: Places = np.where(known, wanted, 0)
        known &= self._there[reads[:, None], places] > 0
        made = np.full((*places.shape, len(self.words)), np.nan, np.float32)
        step = max(1, _BLOCK // max(n_items, *(self._columns(word) for word in self.words), 1))
        for start in range(0, len(reads), step):
            chosen = start + np.flatnonzero(reads[start : start + step] >= 0)
            if not len(chosen):
                continue
            asked = self._asked(reads[chosen], places[chosen], earlier, chosen)
            for place, word in enumerate(self.words):
                found = _MAKERS[word](self, asked)
                made[chosen, :, place] = np.where(known[chosen], found, np.nan)
        return made

    def _columns(self, word: str) -> int:
        return int(self._arrays[f"{word}.columns"][0]) if f"{word}.columns" in self._arrays else 0

    def _asked(self, reads: Places, items: Places, earlier: sp.csr_array, rows: Places) -> _Asked:
        """Return the same, with the clicks of these `rows` that the snapshots know."""
        n_items, own = self._there.shape[1], sp.csr_array(earlier[rows])
        of, numbers = np.repeat(np.arange(len(rows)), np.diff(own.indptr)), own.data
        kept = own.indices < n_items
        kept[kept] = self._there[reads[of[kept]], own.indices[kept]] > 0
        of, numbers = of[kept], numbers[kept]
        columns = reads[of] * n_items + own.indices[kept]
        order = np.lexsort((-numbers, of))  # the latest first
        rank = np.empty(len(of), np.intp)
        rank[order] = np.arange(len(of)) - np.searchsorted(of, of)  # rows are in order
        shape = (len(rows), self._there.size)

        def ones(which: npt.NDArray[np.bool_]) -> sp.csr_array:
            filled = np.ones(np.count_nonzero(which), np.float32)
            return sp.csr_array((filled, (of[which], columns[which])), shape=shape)

        return _Asked(reads, items, ones(np.ones(len(of), bool)), ones(rank < _RECENT))

    def _matrix(self, word: str) -> sp.csr_array:
        parts = tuple(self._arrays[f"{word}.{part}"] for part in ("data", "indices", "indptr"))
        return sp.csr_array(parts, shape=(self._there.size, self._columns(word)))

    @cached_property
    def _walks(self) -> sp.csr_array:
        return self._matrix(WALK)

    @cached_property
    def _cosines(self) -> sp.csr_array:
        return self._matrix(NEIGHBOURS)

    @cached_property
    def _clicked_by(self) -> sp.csr_array:
        """By which users an item of a snapshot was clicked, each worth the root of their clicks ``[s I, U]``."""
        return self._matrix(USERS)

    @cached_property
    def _clicks_of(self) -> sp.csr_array:
        """What users of a snapshot had clicked, ones ``[s U, I]``."""
        whole, (n_snapshots, n_items) = self._clicked_by, self._there.shape
        rows = np.repeat(np.arange(whole.shape[0]), np.diff(whole.indptr))
        users = rows // n_items * whole.shape[1] + whole.indices
        ones, shape = np.ones(whole.nnz, np.float32), (n_snapshots * whole.shape[1], n_items)
        return sp.csr_array((ones, (users, rows % n_items)), shape=shape)

    @cached_property
    def _in_group(self) -> sp.csr_array:
        """Of which community an item of a snapshot is, ones ``[s I, c]``."""
        groups = self._arrays["groups"].ravel()
        rows = np.flatnonzero(groups >= 0)
        shape = (len(groups), int(groups.max(initial=0)) + 1)
        return sp.csr_array((np.ones(len(rows), np.float32), (rows, groups[rows])), shape=shape)

    def _page_rank(self, asked: _Asked) -> Floats:
        return np.asarray(self._arrays["ranks"][asked.reads[:, None], asked.items], np.float64)

    def _walk(self, asked: _Asked) -> Floats:
        return np.log1p(_mean(_of_items(asked.clicked @ self._walks, asked.items), asked.counts))

    def _nearness(self, asked: _Asked) -> Floats:
        return _mean(_of_items(asked.clicked @ self._cosines, asked.items), asked.counts)

    def _share_of_community(self, asked: _Asked) -> Floats:
        groups = self._arrays["groups"][asked.reads[:, None], asked.items]
        return _mean(_of_items(asked.clicked @ self._in_group, np.maximum(groups, 0)), asked.counts)

    def _share_of_users(self, asked: _Asked) -> Floats:
        alike = (asked.recent @ self._clicked_by).toarray()  # [b, U]
        n_users = alike.shape[1]
        most = min(_ALIKE, n_users)
        nearest = np.argpartition(-alike, most - 1, axis=1)[:, :most]
        rows, places = np.nonzero(np.take_along_axis(alike, nearest, axis=1))
        columns = asked.reads[rows] * n_users + nearest[rows, places]
        shape = (len(alike), self._clicks_of.shape[0])
        theirs = sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
        counts = np.diff(theirs.indptr)[:, None].astype(np.intp)
        return _mean(_of_items(theirs @ self._clicks_of, asked.items), counts)


_MAKERS: dict[str, Callable[[ItemGraph, _Asked], Floats]] = {
    ITEM_PAGERANK: ItemGraph._page_rank,
    WALK: ItemGraph._walk,
    NEIGHBOURS: ItemGraph._nearness,
    COMMUNITY: ItemGraph._share_of_community,
    USERS: ItemGraph._share_of_users,
}


def _links(word: str, graph: Snapshot, n_items: int, n_users: int) -> sp.csr_array:
    """Return what a word adds up over clicked items: to items, or to users who clicked them ``[I, I or U]``."""
    if not len(graph.items):
        return sp.csr_array((n_items, n_users if word == USERS else n_items), dtype=np.float32)
    if word == USERS:
        # The cosine to who asks but for their own length, which changes no order.
        found = sp.csr_array((sp.diags_array(degrees(graph.clicks, 1) ** -0.5) @ graph.clicks).T)
        columns, width = graph.users, n_users
    else:
        # Walks over all items alike would be at each of them with the same chance: this is what one is a multiple of.
        found = len(graph.items) * walks(graph.clicks, _WALKED) if word == WALK else cosines(graph.clicks, _NEAREST)
        columns, width = graph.items, n_items
    found = sp.coo_array(found)
    where = graph.items[found.coords[0]], columns[found.coords[1]]
    return sp.csr_array((found.data.astype(np.float32), where), shape=(n_items, width))


def _of_items(sums: sp.csr_array, items: Places) -> Floats:
    """Return the entries ``[b, w]`` of some columns of each row."""
    found: Floats = np.take_along_axis(sums.toarray(), items, axis=1).astype(np.float64)
    return found


def _mean(sums: Floats, counts: Places) -> Floats:
    """Return means over so many, NaN over none."""
    unknown: Floats = np.full(sums.shape, np.nan)
    return np.divide(sums, counts, out=unknown, where=counts > 0)
