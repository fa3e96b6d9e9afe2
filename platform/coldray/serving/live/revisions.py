"""What a replica has taken in from the store, as numbers: equal in all replicas that have taken in the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b

from coldray.serving.engine.queries import UserId
from coldray.serving.live.store import Event, ItemChange


class Revisions:
    """One number for the catalogue and one for each user.

    A number stands for the set of entries of the store that were taken in, in whatever order. Entries are never taken
    back, so that no number comes again: an item that came and went leaves another number than none. What is made
    from the entries must be changed before its number is.
    """

    def __init__(self) -> None:
        self.catalogue = 0
        """Of all changes of items."""
        self._users: dict[UserId, int] = {}

    def of(self, user: UserId | None) -> int:
        """Return the number of a user; 0 if they have sent nothing, or it is nobody."""
        return 0 if user is None else self._users.get(user, 0)

    def take_items(self, changes: Iterable[ItemChange]) -> None:
        """Take note of changes of items, each once."""
        for change in changes:
            self.catalogue ^= _mark(change)

    def take_events(self, events: Iterable[Event], named: Callable[[UserId], UserId]) -> None:
        """Take note of what users did, each event once; `named` returns the one form of a user's id."""
        for event in events:
            user = named(event.user_id)
            self._users[user] = self._users.get(user, 0) ^ _mark(event)


def _mark(entry: ItemChange | Event) -> int:
    """Return 64 bits of an entry; the time tells apart the entries of two stores that are of one number."""
    return int.from_bytes(blake2b(f"{entry.seq} {entry.at!r}".encode(), digest_size=8).digest())
