"""What users did and which items came and went since the model was fitted: durable, and shared by all replicas.

A database holds two logs, of items and of events, and whoever has seen a log up to a number asks for what came after
it. Which version of a model was served last is in it too. The default is a file of SQLite; any URL that SQLAlchemy
knows will do, such as ``postgresql+psycopg://…``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from coldray.core.errors import DataFormatError, StoreError
from coldray.core.masking import masked
from coldray.serving.engine.queries import ItemId, UserId

_LONGEST_WRITE_S = 60.0
"""From the number of an entry to its commit, and what clocks of writers may differ by."""
_TABLES = sa.MetaData()
_ITEMS = sa.Table(
    "item_log",
    _TABLES,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("attributes", sa.Text),  # null: removed
    sa.Column("at", sa.Float, nullable=False),
)
_EVENTS = sa.Table(
    "event_log",
    _TABLES,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.String(200), nullable=False, unique=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("rating", sa.Float),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("clicked", sa.Boolean),  # null: true, written before there was such a column
    sa.Column("context", sa.Text),  # null: there was no exploration
)
_CHAMPIONS = sa.Table(
    "champion_log",
    _TABLES,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("identity", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)


@dataclass(frozen=True)
class ItemChange:
    """An item that came, changed or went."""

    seq: int
    item_id: ItemId
    attributes: Mapping[str, Any] | None
    """By name; None if the item was removed."""
    at: float
    """When it was written, in seconds since 1970."""


@dataclass(frozen=True)
class Event:
    """A click or a rating; or an item that was shown and not clicked."""

    seq: int
    event_id: str
    user_id: UserId
    item_id: ItemId
    rating: float | None
    at: float
    """When it was written, in seconds since 1970."""
    clicked: bool = True
    context: Mapping[str, Any] | None = None
    """In what circumstances the item was shown, if anybody is to learn from it."""


@dataclass(frozen=True)
class NewEvent:
    """An event that is to be written."""

    event_id: str
    user_id: UserId
    item_id: ItemId
    rating: float | None
    clicked: bool = True
    context: Mapping[str, float] | None = None

    def row(self) -> dict[str, Any]:
        """Return the row of the log, without a number."""
        return {
            "event_id": self.event_id, "user_id": json.dumps(self.user_id), "item_id": json.dumps(self.item_id),
            "rating": self.rating, "at": time.time(), "clicked": self.clicked,
            "context": None if self.context is None else json.dumps(self.context),
        }  # fmt: skip


Entry = TypeVar("Entry", ItemChange, Event)


class Follower(Generic[Entry]):
    """Reads a log bit by bit and misses nothing.

    Databases with several writers at once, such as Postgres, give out numbers before they commit: an entry may appear
    after one with a higher number. So a gap is looked at again, until it is filled or has been there for too long to be
    more than a write that failed.
    """

    def __init__(self, since: Callable[[int], list[Entry]], clock: Callable[[], float] = time.time) -> None:
        """Follow the log that `since` returns, from a number on."""
        self._since: Callable[[int], list[Entry]] = since
        self._clock = clock
        self._settled = 0
        self._beyond: set[int] = set()
        self.new: list[Entry] = []
        """Of the last read, the entries that none before it had."""

    def read(self) -> list[Entry]:
        """Return what is new, in order; and what comes after it, again, so that the last of two changes is the last."""
        entries = self._since(self._settled)
        self.new = [entry for entry in entries if entry.seq not in self._beyond]
        old = self._clock() - _LONGEST_WRITE_S
        settling = True
        for entry in entries:
            settling = settling and (entry.seq == self._settled + 1 or entry.at < old)
            if settling:
                self._settled = entry.seq
        self._beyond = {entry.seq for entry in entries if entry.seq > self._settled}
        return [entry for entry in entries if entry.seq >= self.new[0].seq] if self.new else []


class Store:
    """The logs in a database: of items, of events, and of which version of a model was the champion."""

    def __init__(self, url: str) -> None:
        """Open the database, and make its tables, or columns that an earlier version did not have, if there are none.

        Raises
        ------
        StoreError
            If it cannot be opened.
        """
        try:
            parsed = sa.make_url(url)
            # Parameters hold ids, which are no matter for logs.
            self._engine = sa.create_engine(parsed, pool_pre_ping=True, hide_parameters=True)
            if parsed.get_backend_name() == "sqlite":
                sa.event.listen(self._engine, "connect", _durable)
            try:
                self._make_tables()
            except SQLAlchemyError:  # another replica was making them
                self._make_tables()
        except (SQLAlchemyError, ModuleNotFoundError) as error:
            raise StoreError(f"The store {masked(url)} cannot be opened: {error}. Give another --store URL.") from error

    def _make_tables(self) -> None:
        _TABLES.create_all(self._engine)
        there = {column["name"] for column in sa.inspect(self._engine).get_columns(_EVENTS.name)}
        for column in (_EVENTS.c.clicked, _EVENTS.c.context):
            if column.name not in there:
                kind = column.type.compile(self._engine.dialect)
                with self._begin() as connection:
                    connection.execute(sa.text(f"ALTER TABLE {_EVENTS.name} ADD COLUMN {column.name} {kind}"))

    @classmethod
    def at(cls, path: Path) -> Store:
        """Open a file of SQLite, and make it and its folder if they are not there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{path}")

    def put_item(self, item_id: ItemId, attributes: Mapping[str, Any] | None) -> int:
        """Write that an item came, changed or (None) went; return the number of the entry. Durable on return."""
        values = None if attributes is None else json.dumps(attributes, ensure_ascii=False, allow_nan=False)
        row = {"item_id": json.dumps(item_id), "attributes": values, "at": time.time()}
        with self._begin() as connection:
            inserted = connection.execute(sa.insert(_ITEMS).values(row))
            return int(inserted.inserted_primary_key[0])

    def put_events(self, events: Sequence[NewEvent]) -> list[bool | DataFormatError]:
        """Write events, all in one go: to make one durable takes as long as to make many. Durable on return.

        Returns
        -------
        list
            Of each: True; False if it had been written before, in whatever context; an error if another event has its
            id, which is no matter for the others.
        """
        rows, known = [event.row() for event in events], dict[str, dict[str, Any]]()
        while True:
            fresh: dict[str, dict[str, Any]] = {}
            for row in rows:
                if row["event_id"] not in known:
                    fresh.setdefault(row["event_id"], row)
            try:
                if fresh:
                    with self._begin() as connection:
                        connection.execute(sa.insert(_EVENTS), list(fresh.values()))
                break
            except IntegrityError:  # some had been written before: by us, or by another replica a moment ago
                before = len(known)
                known |= self._written(fresh)
                if len(known) == before:
                    raise
        return [fresh.get(row["event_id"]) is row or _same_event(row, (known | fresh)[row["event_id"]]) for row in rows]

    def _written(self, event_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return those of some events that are in the log, by id."""
        with self._begin() as connection:
            found = connection.execute(sa.select(_EVENTS).where(_EVENTS.c.event_id.in_(list(event_ids)))).mappings()
            return {row["event_id"]: dict(row) for row in found}

    def items_since(self, seq: int) -> list[ItemChange]:
        """Return the changes of items after the entry `seq`, in order."""
        with self._begin() as connection:
            rows = connection.execute(sa.select(_ITEMS).where(_ITEMS.c.seq > seq).order_by(_ITEMS.c.seq)).all()
        return [
            ItemChange(
                row.seq,
                json.loads(row.item_id),
                None if row.attributes is None else json.loads(row.attributes),
                row.at,
            )
            for row in rows
        ]

    def events_since(self, seq: int) -> list[Event]:
        """Return the events after the entry `seq`, in order."""
        with self._begin() as connection:
            rows = connection.execute(sa.select(_EVENTS).where(_EVENTS.c.seq > seq).order_by(_EVENTS.c.seq)).all()
        return [
            Event(
                row.seq,
                row.event_id,
                json.loads(row.user_id),
                json.loads(row.item_id),
                row.rating,
                row.at,
                row.clicked is not False,
                None if row.context is None else json.loads(row.context),
            )
            for row in rows
        ]

    def champion(self, name: str) -> tuple[str, str] | None:
        """Return the number and the identity of the version of a model that was served last; None if none was."""
        wanted = sa.select(_CHAMPIONS).where(_CHAMPIONS.c.name == name).order_by(_CHAMPIONS.c.seq.desc()).limit(1)
        with self._begin() as connection:
            found = connection.execute(wanted).one_or_none()
        return None if found is None else (found.version, found.identity)

    def put_champion(self, name: str, version: str, identity: str) -> None:
        """Write which version of a model is served now, unless that is known; a replica that comes later asks."""
        if self.champion(name) != (version, identity):
            row = {"name": name, "version": version, "identity": identity, "at": time.time()}
            with self._begin() as connection:
                connection.execute(sa.insert(_CHAMPIONS).values(row))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _begin(self) -> Any:
        return self._engine.begin()


class Revisions:
    """What a replica has taken in, as one number for the catalogue and one for each user, equal in all replicas.

    A number stands for the set of entries of the store that were taken in, in whatever order. Entries are never taken
    back, so that no number comes again: an item that came and went leaves another number than none. What is made
    from the entries must be changed before its number is.
    """

    def __init__(self) -> None:
        self.catalogue = 0
        """Of all changes of items, and of clicks by which the model knows items better."""
        self._users: dict[UserId, int] = {}

    def of(self, user: UserId | None) -> int:
        """Return the number of a user; 0 if they have sent nothing, or it is nobody."""
        return 0 if user is None else self._users.get(user, 0)

    def take_items(self, changes: Iterable[ItemChange]) -> None:
        """Take note of changes of items, each once."""
        for change in changes:
            self.catalogue ^= _mark(change)

    def take_clicks(self, events: Iterable[Event]) -> None:
        """Take note of clicks that change what everybody is given, each once."""
        for event in events:
            self.catalogue ^= _mark(event)

    def take_events(self, events: Iterable[Event], named: Callable[[UserId], UserId]) -> None:
        """Take note of what users did, each event once; `named` returns the one form of a user's id."""
        for event in events:
            user = named(event.user_id)
            self._users[user] = self._users.get(user, 0) ^ _mark(event)


def _same_event(row: Mapping[str, Any], written: Mapping[str, Any]) -> Literal[False] | DataFormatError:
    """Return False, for nothing new, if an event is the one that was written under its id, else what is wrong."""
    fields = ("user_id", "item_id", "rating")
    same = all(row[name] == written[name] for name in fields) and row["clicked"] == (written["clicked"] is not False)
    return not same and DataFormatError(f"event_id: {row['event_id']!r} is the id of another event. Give each its own.")


def _mark(entry: ItemChange | Event) -> int:
    """Return 64 bits of an entry; the time tells apart the entries of two stores that are of one number."""
    return int.from_bytes(blake2b(f"{entry.seq} {entry.at!r}".encode(), digest_size=8).digest())


def _durable(connection: Any, _: Any) -> None:
    """Make SQLite keep what it has answered for, through a power cut too, and let readers go on while one writes."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
