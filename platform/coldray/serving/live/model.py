"""The model that a replica serves now: a bundle, and what the store says has happened since it was fitted."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import blake2b
from itertools import count
from typing import Any

from coldray.bundle.family import Family
from coldray.bundle.model import Bundle
from coldray.bundle.new_items import new_attributes, refuse_text_lists
from coldray.core.errors import ColdrayError, ConfigError, DataFormatError, UnknownIdError
from coldray.data.item_names import ItemNames
from coldray.models.forms import Form
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.ids import has_numbers, refuse_new_id, warn_of_odd_ids, whole_number
from coldray.serving.engine.names import NameIndex
from coldray.serving.engine.queries import ItemId, UserId, plain
from coldray.serving.exploration.explore import ExplorationConfig, Explorer, ItemProjection, uncertainty_of
from coldray.serving.exploration.outcomes import Outcomes
from coldray.serving.live.clicks import NewItemClicks
from coldray.serving.live.store import Follower, NewEvent, Revisions, Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelVersion:
    """Which model it is."""

    name: str
    version: str
    identity: str = ""
    """What it is beside its number: a version that was deleted and made again under its number is another one."""

    def __str__(self) -> str:
        """Return the name and the number, as a log has them."""
        return f"{self.name} {self.version}"


class LiveModel:
    """An engine that follows the store; one thread may use it at a time.

    New items are added to the bundle that was loaded, so that a changed item is the changed one alone; the events of
    users are laid over its histories.
    """

    def __init__(
        self, bundle: Bundle, version: ModelVersion, store: Store, exploration: ExplorationConfig | None = None
    ) -> None:
        self.version, self.store = version, store
        self._base = bundle
        self._exploration = exploration or ExplorationConfig()
        self._projection = ItemProjection(bundle.features) if self.explores else None
        self._draws = count()
        self._outcomes = Outcomes()
        self.fingerprint = _fingerprint(bundle)
        """Of the bundle that was loaded: its manifest, which has the checksums of its files."""
        self.revisions = Revisions()
        """Of what was taken in since; what is made now is never older than they are."""
        warn_of_odd_ids(bundle.item_ids, "item")
        warn_of_odd_ids(bundle.user_ids, "user")
        self._catalogue = frozenset(plain(item) for item in bundle.item_ids)
        self._new_clicks = NewItemClicks(bundle)
        self._added: dict[ItemId, Mapping[str, Any]] = {}
        self._removed: set[ItemId] = set()
        self._events: dict[UserId, dict[ItemId, float | None]] = {}
        self._changes, self._clicks = Follower(store.items_since), Follower(store.events_since)
        self._names = NameIndex(ItemNames(bundle.attributes, bundle.item_ids.tolist()))
        self.lists_told = bundle.lists_form.told
        """How lists are found, in words: by scoring all items, or through an index, with what it misses."""
        self.forms = [Form(**form).told for form in bundle.manifest.get("forms", [])]
        """In which forms the model was fitted, in words."""
        self.engine = self._engine_of(bundle)
        self.refresh()

    def _engine_of(self, bundle: Bundle) -> Engine:
        engine = Engine(bundle, events=self._events, removed=self._removed, names=self._names)
        if self._projection is not None:
            vectors = self._projection.vectors(bundle.features)
            uncertainty = partial(uncertainty_of, bundle.model, engine.warm)
            engine.explorer = Explorer(self._exploration, vectors, uncertainty, engine.find, self._draws)
            engine.explorer.learn(self._outcomes.sums)
        return engine

    @property
    def explores(self) -> bool:
        """True if lists are explored unless a request forbids it: the same request may get another list."""
        return self._exploration.method != "none"

    @property
    def clicks_told(self) -> str:
        """What of the clicks since its fit the model knows, in words."""
        return self._new_clicks.told

    @property
    def takes_new_items(self) -> bool:
        """True if the model scores an item by its attributes alone."""
        return self._base.model.scores_cold_items

    def was_removed(self, item: ItemId) -> bool:
        """Return whether an item was there and is no more; an id that came as text may be meant as a number."""
        return item in self._removed or str(item) in self._removed

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
        if self.engine.named_item(item) in self._catalogue:
            raise DataFormatError(
                f"item_id: {item!r} is an item that the model was fitted with; give a new one an id of its own."
            )
        kind = int if has_numbers(self._base.item_ids) else str
        if type(whole_number(item) if kind is int else item) is not kind:
            raise DataFormatError(f"item_id: ids of this catalogue are {kind.__name__}, not {type(item).__name__}.")
        new_attributes(self._base, [attributes])

    def check_written(self, attributes: Mapping[str, Any]) -> None:
        """Refuse labels of a new item that are lists written as text, unless there are such labels."""
        refuse_text_lists(self._base, attributes)

    def event(
        self, event_id: str, user: UserId, item: ItemId, rating: float | None, *, clicked: bool = True
    ) -> NewEvent:
        """Return an event as it is to be written to the store, with its context if lists are explored.

        Raises
        ------
        UnknownIdError
            If there is no such item, or it was removed.
        DataFormatError
            If nobody can have that id of the user.
        """
        engine = self.engine
        if self.was_removed(engine.named_item(item)):
            raise UnknownIdError(f"item_id: {item!r:.80} was removed, and takes no feedback.")
        engine.place(item)
        engine.check_user(user)
        if not engine.knows_user(user):
            refuse_new_id(user, "user_id")
        user, item = engine.named_user(user), engine.named_item(item)
        context = self.engine.context(user, item) if self.explores else None
        return NewEvent(event_id, user, item, rating, clicked, context)

    @cached_property
    def family(self) -> Family:
        """Of which catalogue the bundle is that was loaded."""
        return Family.of_bundle(self._base)

    def refresh(self) -> bool:
        """Take in what the store has that this replica has not seen; return whether there was anything."""
        changes = self._changes.read()
        if changes:  # before the events are read, which may fail: what was read is not read again
            self._apply({change.item_id: change.attributes for change in changes})
            self.revisions.take_items(self._changes.new)
            self._new_clicks.take_items(self._changes.new)
        events = self._clicks.read()
        for event in events:
            if event.clicked:
                self._events.setdefault(self.engine.named_user(event.user_id), {})[event.item_id] = event.rating
                self.engine.observe(event.user_id, event.item_id, event.rating)
        if self.engine.explorer is not None:
            self.engine.explorer.learn(self._outcomes.add(self._clicks.new))
        counted = self._new_clicks.take(self._clicks.new, self.engine)
        self._warm_up()
        self.revisions.take_clicks(counted)
        self.revisions.take_events(self._clicks.new, self.engine.named_user)
        return bool(changes or events)

    def _warm_up(self) -> None:
        """Let the model know who clicked items that had no click in its fit: they move in everybody's lists.

        Only what has to be told again of the items that got clicks, or came back to their attributes, is made anew.
        """
        items, clicks = self._new_clicks.due(self.engine)
        if len(items):
            self.engine = self.engine.knowing(self.engine.bundle.model.with_clicks_on(items, clicks))

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
        self.engine = self._engine_of(extended)
        self._new_clicks.forgotten(None if rebuild else fresh)

    def _extended(self, bundle: Bundle, items: Mapping[ItemId, Mapping[str, Any]]) -> Bundle:
        """Return the bundle with those of the items that this model can take."""
        usable = {}
        for item, attributes in items.items():
            try:
                self.check_new(item, attributes)
                usable[item] = attributes
            except ColdrayError as error:  # it was accepted by another model
                logger.warning("A new item is not served by %s: %s", self.version, error)
        return bundle.add_items(usable, list_text=True) if usable else bundle


def _fingerprint(bundle: Bundle) -> str:
    """Return a hash that is equal for bundles of equal manifests."""
    return blake2b(json.dumps(bundle.manifest, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()
