"""Lists that were made a moment ago: kept in the process, or in a Redis that all replicas share.

Nothing is ever deleted from a cache because it is out of date. The key of a list holds all that the list depends on, so
that another model, a change of the catalogue or an event of the user leads to another key; what is under the old one is
asked for no more and goes by its age, or when there is no room.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Protocol

from cachetools import TTLCache
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from coldray import __version__
from coldray.core.errors import ConfigError
from coldray.serving.api.schemas import RecommendRequest
from coldray.serving.live.model import LiveModel
from coldray.serving.live.rare_warning import RareWarning

_REDIS_TIMEOUT_S = 0.25
"""How long a list waits for Redis before it is made anew; a process that scores has no eye for answers meanwhile."""
_REDIS_PAUSE_S = 2.0
"""How long a Redis that did not answer is left alone: a request waits for it once in that time, not each one."""
_MOST_CONNECTIONS = 2048
"""More than a replica has requests and writes at once, unless it is set to take on very many."""
_MOST_WRITES = 256
"""Lists on their way to Redis; one more is not kept."""
_ENTRY_BYTES = 512
"""What an entry takes beside its list, about."""
_PREFIX = "coldray:list:"
SCHEMES = ("redis://", "rediss://", "unix://")
logger = logging.getLogger(__name__)


class ListCache(Protocol):
    """Lists, as the JSON that answers a request, by key. Neither method fails."""

    async def get(self, key: str) -> bytes | None:
        """Return what was kept under a key, or None."""

    def put(self, key: str, text: bytes) -> None:
        """Keep a list, if there is room; without waiting."""


class MemoryCache:
    """In this process: the lists that were asked for last, none older than its time to live."""

    def __init__(
        self, ttl_s: float, *, entries: int, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._entries, self._max_bytes = entries, max_bytes
        self._lists: TTLCache[str, bytes] = TTLCache(max_bytes, ttl_s, clock, _size)

    def __len__(self) -> int:
        return len(self._lists)

    @property
    def n_bytes(self) -> float:
        """What the lists take, about."""
        return self._lists.currsize

    async def get(self, key: str) -> bytes | None:
        """Return what was kept under a key, or None."""
        return self._lists.get(key)

    def put(self, key: str, text: bytes) -> None:
        """Keep a list, in the place of those that nobody has asked for the longest."""
        if _size(text) > self._max_bytes:
            return
        self._lists[key] = text
        while len(self._lists) > self._entries:
            self._lists.popitem()


class RedisCache:
    """In a Redis; while it is away or slow there is nothing in the cache, and a warning in the log."""

    def __init__(self, url: str, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Connect when first asked.

        Raises
        ------
        ConfigError
            If it is no URL of a Redis.
        """
        try:
            self._redis: Redis = Redis.from_url(
                url,
                protocol=2,  # which every version of the server speaks
                retry=Retry(NoBackoff(), 0),
                socket_timeout=_REDIS_TIMEOUT_S,
                socket_connect_timeout=_REDIS_TIMEOUT_S,
                max_connections=_MOST_CONNECTIONS,
            )
        except ValueError as error:
            raise ConfigError(f"The cache is no URL of a Redis: {error}.") from error
        self._ttl_ms = max(1, round(1000 * ttl_s))
        self._clock = clock
        self._away_until = float("-inf")
        self._writing: set[asyncio.Task[None]] = set()
        self._warn = RareWarning(logger, clock)

    async def get(self, key: str) -> bytes | None:
        """Return what was kept under a key, or None."""
        if self._clock() < self._away_until:
            return None
        try:
            async with asyncio.timeout(_REDIS_TIMEOUT_S):
                found = await self._redis.get(_PREFIX + key)
        except (RedisError, OSError) as error:
            self._leave_alone(error)
            return None
        return found if isinstance(found, bytes) else None

    def put(self, key: str, text: bytes) -> None:
        """Send a list to Redis while the answer goes to the client."""
        if self._clock() < self._away_until or len(self._writing) >= _MOST_WRITES:
            return
        task = asyncio.get_running_loop().create_task(self._write(key, text))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, key: str, text: bytes) -> None:
        try:
            async with asyncio.timeout(_REDIS_TIMEOUT_S):
                await self._redis.set(_PREFIX + key, text, px=self._ttl_ms)
        except (RedisError, OSError) as error:
            self._leave_alone(error)

    def _leave_alone(self, error: Exception) -> None:
        self._away_until = self._clock() + _REDIS_PAUSE_S
        self._warn("The cache in Redis does not answer; lists are made anew: %s", str(error) or type(error).__name__)

    async def written(self) -> None:
        """Wait for the lists that are on their way to Redis."""
        await asyncio.gather(*self._writing)

    async def close(self) -> None:
        """Wait for what is on its way and close the connections."""
        await self.written()
        await self._redis.aclose()


def _size(text: bytes) -> int:
    return len(text) + _ENTRY_BYTES


class KeptLists:
    """What the service keeps of its lists: those for users, and for those of whom nothing is known."""

    def __init__(self, cache: ListCache | None) -> None:
        """Keep lists in a cache; none are kept if there is no cache."""
        self._cache = cache
        self._found = self._missed = 0

    def key(self, live: LiveModel, request: RecommendRequest) -> str | None:
        """Return the key of a list, or None if it is not to be kept.

        Nobody sends the same history for long, and a list in which items are tried out is another each time.
        """
        if self._cache is None or request.history is not None or (live.explores and request.explore):
            return None
        return _list_key(live, request)

    async def get(self, key: str | None) -> bytes | None:
        """Return the list that was kept under a key, if it is there."""
        if key is None or self._cache is None:
            return None
        text = await self._cache.get(key)
        if text is None:
            self._missed += 1
        else:
            self._found += 1
        return text

    def counted(self) -> dict[str, int]:
        """Return how many lists were there (``yes``) and how many were not (``no``) since the last call."""
        counted = {"yes": self._found, "no": self._missed}
        self._found = self._missed = 0
        return counted

    def put(self, key: str | None, text: bytes) -> None:
        """Keep a list under its key, if it has one."""
        if key is not None and self._cache is not None:
            self._cache.put(key, text)


def _list_key(live: LiveModel, request: RecommendRequest) -> str:
    """Return the key of the list that a model gives to a request now: of all that the list depends on."""
    known, user = live.revisions, request.user_id
    if user is not None:  # who is named in two ways is one
        user = live.engine.named_user(user)
        request = request if user == request.user_id else request.model_copy(update={"user_id": user})
    # What depends on when it is asked for is kept for a minute.
    minute = None if live.engine.bundle.moments is None else int(time.time() // 60)
    parts = (
        __version__, live.version.name, live.version.version, live.fingerprint, known.catalogue,
        known.of(user), canonical(request), minute,
    )  # fmt: skip
    return blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def canonical(request: RecommendRequest) -> Mapping[str, Any]:
    """Return what is asked for, the same however it is written: fields and items in whatever order, or twice."""
    asked = request.model_dump()
    for field in ("exclude", "candidates"):
        if isinstance(asked[field], list):
            asked[field] = _set(asked[field])
    asked["filters"] = {
        name: asked["filters"][name] | {"any": _set(given.any) if given.any else given.any}
        for name, given in sorted(request.filters.items())
    }
    return asked


def _set(values: list[Any]) -> list[Any]:
    return sorted(set(values), key=repr)  # ids are numbers or text, which do not compare
