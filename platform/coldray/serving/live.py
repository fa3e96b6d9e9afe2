"""The model that a replica serves now: a bundle, and what the store says has happened since it was fitted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coldray.errors import ColdrayError, ConfigError, DataFormatError
from coldray.features.builder import attributes_from_records
from coldray.serving.engine import Engine
from coldray.serving.names import ItemNames, NameIndex
from coldray.serving.queries import ItemId, UserId, plain
from coldray.serving.store import Follower, Store
from coldray.tracking.bundle import Bundle

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelVersion:
    """Which model it is."""

    name: str
    version: str


class LiveModel:
    """An engine that follows the store; one thread may use it at a time.

    New items are added to the bundle that was loaded, so that a changed item is the changed one alone; the events of
    users are laid over its histories.
    """

    def __init__(self, bundle: Bundle, version: ModelVersion, store: Store) -> None:
        self.version, self.store = version, store
        self._base = bundle
        self._catalogue = frozenset(plain(item) for item in bundle.item_ids)
        self._added: dict[ItemId, Mapping[str, Any]] = {}
        self._removed: set[ItemId] = set()
        self._events: dict[UserId, dict[ItemId, float | None]] = {}
        self._changes, self._clicks = Follower(store.items_since), Follower(store.events_since)
        self._names = NameIndex(ItemNames(bundle.attributes, bundle.item_ids.tolist()))
        self.engine = Engine(bundle, names=self._names)
        self.refresh()

    @property
    def takes_new_items(self) -> bool:
        """True if the model scores an item by its attributes alone."""
        return self._base.model.scores_cold_items

    def check_new(self, item: ItemId, attributes: Mapping[str, Any]) -> None:
        """Find out whether an item can be added.

        Raises
        ------
        ConfigError
            If the model needs clicks to score an item.
        DataFormatError
            If the id is of an item the model was fitted with, or of another type than those, or an attribute is
            unknown or not of its kind.
        """
        if not self.takes_new_items:
            raise ConfigError(
                f"The model {self._base.model.name!r} needs clicks to score an item and takes no new ones. Promote one "
                "that scores items by their attributes, such as kernel_align."
            )
        if item in self._catalogue:
            raise DataFormatError(
                f"item_id: {item!r} is an item that the model was fitted with; give a new one an id of its own."
            )
        kind = type(plain(self._base.item_ids[0]))
        if type(item) is not kind:
            raise DataFormatError(f"item_id: ids of this catalogue are {kind.__name__}, not {type(item).__name__}.")
        attributes_from_records([attributes], self._base.kinds)

    def refresh(self) -> bool:
        """Take in what the store has that this replica has not seen; return whether there was anything."""
        changes, events = self._changes.read(), self._clicks.read()
        if changes:
            self._apply({change.item_id: change.attributes for change in changes})
        for event in events:
            self._events.setdefault(event.user_id, {})[event.item_id] = event.rating
            self.engine.observe(event.user_id, event.item_id, event.rating)
        return bool(changes or events)

    def _apply(self, changes: Mapping[ItemId, Mapping[str, Any] | None]) -> None:
        """Add, change and remove items; only a changed one makes it necessary to add all of them again."""
        fresh = {}
        rebuild = False
        for item, attributes in changes.items():
            if attributes is None:
                self._removed.add(item)
                continue
            self._removed.discard(item)
            if item in self._catalogue:
                continue
            rebuild |= item in self._added and self._added[item] != attributes
            if self._added.get(item) != attributes:
                fresh[item] = attributes
        self._added |= fresh
        base, wanted = (self._base, self._added) if rebuild else (self.engine.bundle, fresh)
        extended = self._extended(base, wanted)
        self.engine = Engine(extended, events=self._events, removed=self._removed, names=self._names)

    def _extended(self, bundle: Bundle, items: Mapping[ItemId, Mapping[str, Any]]) -> Bundle:
        """Return the bundle with those of the items that this model can take."""
        usable = {}
        for item, attributes in items.items():
            try:
                self.check_new(item, attributes)
                usable[item] = attributes
            except ColdrayError as error:  # it was accepted by another model
                logger.warning("A new item is not served by %s: %s", self.version, error)
        return bundle.add_items(usable) if usable else bundle
