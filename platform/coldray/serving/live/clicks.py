"""Which clicks on new items move an item in everybody's lists, and what is told of the others.

A click counts if it is of a user of whom the fit had a click, once however often it is sent. Whoever came since is seen
by nothing that the fit had learned from, and may be made up: what they click changes their own lists, and nobody
else's until the next fit. So no number of new users takes a place in the lists of others, and what the model knows of
an item hangs on who clicked it alone: not on the order of events, nor on what those users did meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.bundle.model import Bundle
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import ItemId, plain
from coldray.serving.live.store import Event, ItemChange


class NewItemClicks:
    """Who clicked the items of which the fit had no click."""

    def __init__(self, bundle: Bundle) -> None:
        self._takes = bundle.model.takes_clicks
        self._fit = bundle.interactions
        self._warm = frozenset(plain(item) for item in bundle.item_ids[bundle.clicks > 0])
        self._catalogue = frozenset(plain(item) for item in bundle.item_ids)
        self._clickers: dict[ItemId, set[int]] = {}
        self._due: set[ItemId] = set()
        self._created: dict[ItemId, float] = {}
        self._waiting: dict[ItemId, list[float]] = {}
        self._unknown = self._early = 0

    @property
    def told(self) -> str:
        """What of the clicks since the fit the model knows, in words."""
        if not self._takes:
            return "The model takes no clicks without a fit: they change the lists of those who clicked."
        known = sum(map(len, self._clickers.values()))
        return (
            f"{known:,} clicks on {len(self._clickers):,} items that had none in the fit move them in all lists. "
            f"{self._unknown:,} of users without a click in the fit do not, and {self._early:,} are older than their "
            "items."
        )

    def take_items(self, changes: Iterable[ItemChange]) -> None:
        """Take note of when items came."""
        for change in changes:
            if change.attributes is not None and change.item_id not in self._created:
                self._created[change.item_id] = change.at
                self._early += sum(at < change.at for at in self._waiting.pop(change.item_id, ()))

    def take(self, events: Iterable[Event], engine: Engine) -> list[Event]:
        """Take in events, each once; return those by which a model that takes clicks knows an item better."""
        counted = []
        for event in events:
            item, row = engine.named_item(event.item_id), engine.row_of(event.user_id)
            if not event.clicked or item in self._warm or not self._takes:
                continue
            self._look_at_time(item, event.at)
            if row is None or self._fit.indptr[row] == self._fit.indptr[row + 1]:
                self._unknown += 1
                continue
            counted.append(event)
            clickers = self._clickers.setdefault(item, set())
            if row not in clickers:
                clickers.add(row)
                self._due.add(item)
        return counted

    def _look_at_time(self, item: ItemId, at: float) -> None:
        if item in self._created:
            self._early += at < self._created[item]
        elif item not in self._catalogue:
            self._waiting.setdefault(item, []).append(at)

    def forgotten(self, items: Iterable[ItemId] | None = None) -> None:
        """Take note that the model knows some items, or all, by their attributes alone again."""
        self._due |= self._clickers.keys() if items is None else self._clickers.keys() & set(items)

    def due(self, engine: Engine) -> tuple[npt.NDArray[np.int64], sp.csr_array]:
        """Return the items of which the model is to be told, ascending ``[k]``, and the clicks that it is to be told.

        The clicks are those of all who clicked one of them, ``[b, I]``: what they had clicked in the fit, and these
        items. An item that is not there, or not yet, is left out until it comes.
        """
        found = {place: self._clickers[item] for item in self._due if (place := engine.find(item)) is not None}
        self._due.clear()
        items = np.array(sorted(found), np.int64)
        rows = np.array(sorted(set[int]().union(*found.values())), np.int64)
        of_new: list[Any] = [np.searchsorted(rows, sorted(found[item])) for item in items.tolist()]
        before = sp.csr_array(self._fit[rows])
        cells = np.repeat(items, [len(users) for users in of_new])
        users = np.concatenate([np.zeros(0, np.int64), *of_new])
        own = sp.coo_array((np.ones(len(users), before.dtype), (users, cells)), shape=(len(rows), engine.n_items))
        known = sp.csr_array((before.data, before.indices, before.indptr), shape=own.shape)
        return items, sp.csr_array(known + own)
