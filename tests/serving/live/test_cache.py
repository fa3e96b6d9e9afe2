"""Kept lists: what their keys are made of, how long they stay, and a Redis that comes and goes."""

import asyncio
import contextlib
import dataclasses
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import ValidationError

from coldray.core.errors import ConfigError
from coldray.serving.api.schemas import RecommendRequest
from coldray.serving.api.settings import ServiceSettings
from coldray.serving.exploration.explore import ExplorationConfig
from coldray.serving.live import cache as cache_module
from coldray.serving.live.cache import (
    _ENTRY_BYTES,
    _REDIS_PAUSE_S,
    KeptLists,
    MemoryCache,
    RedisCache,
    _list_key,
    canonical,
)
from coldray.serving.live.model import LiveModel, ModelVersion
from contracts.feedback import put_event

VERSION = ModelVersion("m", "1")


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def got(cache, key):
    """Return what a cache has without an event loop: it waits for nothing."""
    with pytest.raises(StopIteration) as done:
        cache.get(key).send(None)
    return done.value.value


# ---- in memory


class MemoryCacheAgainstAList(RuleBasedStateMachine):
    """The cache does what a list of entries would, searched from its end."""

    TTL, ENTRIES, BYTES = 10, 4, 6 * _ENTRY_BYTES  # four long lists are too large, five short ones too many

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.cache = MemoryCache(self.TTL, entries=self.ENTRIES, max_bytes=self.BYTES, clock=self.clock)
        self.kept = []  # (key, text, until), what was used last at the end

    @rule(key=st.sampled_from("abcdefg"), size=st.integers(0, 400))
    def put(self, key, size):
        text = b"x" * size
        self.cache.put(key, text)
        self._forget()
        self.kept = [entry for entry in self.kept if entry[0] != key]
        self.kept.append((key, text, self.clock.now + self.TTL))
        while len(self.kept) > self.ENTRIES or self._size() > self.BYTES:
            self.kept.pop(0)

    @rule(key=st.sampled_from("abcdefg"))
    def get(self, key):
        self._forget()
        found = next((entry for entry in self.kept if entry[0] == key), None)
        assert got(self.cache, key) == (found and found[1])
        if found:
            self.kept.remove(found)
            self.kept.append(found)

    @rule(seconds=st.integers(0, 6))
    def wait(self, seconds):
        self.clock.now += seconds

    @invariant()
    def within_bounds(self):
        assert len(self.cache) <= self.ENTRIES
        assert self.cache.n_bytes <= self.BYTES

    def _forget(self):
        self.kept = [entry for entry in self.kept if self.clock.now < entry[2]]

    def _size(self):
        return sum(len(text) + _ENTRY_BYTES for _, text, _ in self.kept)


TestMemoryCache = MemoryCacheAgainstAList.TestCase


def test_a_list_that_is_larger_than_all_room_is_not_kept():
    cache = MemoryCache(10, entries=5, max_bytes=1000)
    cache.put("a", b"x" * 100)
    cache.put("a", b"x" * 2000)
    cache.put("b", b"x" * 2000)
    assert got(cache, "b") is None
    assert len(cache) <= 1


# ---- keys


@pytest.fixture
def live(bundle, store):
    return LiveModel(bundle, VERSION, store)


def test_a_key_changes_with_all_that_the_list_depends_on(live, bundle, store):
    request = RecommendRequest(user_id="user-0003")
    keys = [_list_key(live, request)]

    def other(model, asked=request):
        keys.append(_list_key(model, asked))
        assert len(set(keys)) == len(keys)

    put_event(store, "e", "user-0003", "item-0001", None)
    live.refresh()
    other(live)
    store.put_item("new", {"year": 1999})
    live.refresh()
    other(live)
    store.put_item("new", None)
    live.refresh()
    other(live)  # the catalogue is what it was, yet a list with the item may be on its way to the cache
    other(LiveModel(bundle, ModelVersion("m", "2"), store))
    other(LiveModel(bundle, ModelVersion("n", "1"), store))
    other(LiveModel(dataclasses.replace(bundle, manifest={"files": {"a": "1"}}), VERSION, store))
    for fields in ({"user_id": "user-0004"}, {"user_id": None}, {"user_id": "3"}, {"k": 11},
                   {"explain": True}, {"exclude": ["a"]}, {"candidates": ["a"]}, {"candidates": "warm"},
                   {"diversity": 0.5}, {"filters": {"genres": {"any": ["a"]}}}, {"filters": {"genres": {"any": []}}},
                   {"filters": {"year": {"at_least": 1990}}}):  # fmt: skip
        other(live, RecommendRequest.model_validate({"user_id": "user-0003", **fields}))
    number, text = (RecommendRequest(user_id=user) for user in (3, "3"))
    assert _list_key(live, number) == _list_key(live, text)  # both name one user


def test_a_key_stays_while_others_do_something(live, bundle, store):
    request = RecommendRequest(user_id="user-0003")
    before = _list_key(live, request)
    put_event(store, "e", "user-0004", "item-0001", None)
    live.refresh()
    assert _list_key(live, request) == before
    assert not live.refresh()
    assert _list_key(live, RecommendRequest(user_id="user-0004")) != _list_key(
        LiveModel(bundle, VERSION, EmptyStore()), RecommendRequest(user_id="user-0004")
    )


class EmptyStore:
    def items_since(self, seq):
        return []

    events_since = items_since


def test_replicas_that_have_taken_in_the_same_have_the_same_keys(live, bundle, store):
    """One that saw entries as they came, and one that starts now."""
    for number in range(3):
        put_event(store, f"e{number}", "user-0003", f"item-{number:04d}", number)
        store.put_item(f"new-{number}", {"year": 2000 + number})
        live.refresh()
    request = RecommendRequest(user_id="user-0003")
    assert _list_key(live, request) == _list_key(LiveModel(bundle, VERSION, store), request)


def test_an_event_that_appears_late_changes_the_key(bundle, store):
    """A database with several writers may show an entry after one with a higher number."""
    for number in range(3):
        put_event(store, f"e{number}", "user-0003", f"item-{number:04d}", None)
    all_of_them = store.events_since(0)
    late = LateStore([event for event in all_of_them if event.event_id != "e1"])
    live, request = LiveModel(bundle, VERSION, late), RecommendRequest(user_id="user-0003")
    before = _list_key(live, request)
    late.events = all_of_them
    live.refresh()
    assert _list_key(live, request) != before
    assert _list_key(live, request) == _list_key(LiveModel(bundle, VERSION, store), request)


class LateStore(EmptyStore):
    def __init__(self, events):
        self.events = events

    def events_since(self, seq):
        return [event for event in self.events if event.seq > seq]


ids = st.one_of(st.integers(-5, 5), st.text(min_size=1, max_size=2))
labels = st.lists(st.text(max_size=2), max_size=3)


@given(
    st.lists(ids, max_size=4),
    st.lists(ids, min_size=1, max_size=4),
    st.dictionaries(st.text(max_size=2), labels, max_size=3),
    st.randoms(),
)
def test_a_request_is_the_same_however_it_is_written(exclude, candidates, filters, random):
    def written(order):
        return RecommendRequest.model_validate(
            {
                "filters": {name: {"any": order(filters[name])} for name in order(list(filters))},
                "candidates": order(candidates),
                "exclude": order(exclude),
            }
        )

    def shuffled(values):
        doubled = [*values, *(value for value in values if random.random() < 0.5)]
        random.shuffle(doubled)
        return list(dict.fromkeys(doubled)) if values and values[0] in filters else doubled

    one, other = canonical(written(list)), canonical(written(shuffled))
    assert one == other
    assert list(one["filters"]) == list(other["filters"])


def test_what_is_left_out_is_the_default():
    written = {"k": 10, "exclude": [], "candidates": "all", "filters": {}, "diversity": 0, "explain": False}
    assert repr(canonical(RecommendRequest())) == repr(canonical(RecommendRequest.model_validate(written)))


# ---- what is kept


def test_histories_and_explored_lists_are_not_kept_and_what_is_found_is_counted(live, bundle, store):
    exploring = LiveModel(bundle, VERSION, store, ExplorationConfig(method="thompson"))
    kept = KeptLists(MemoryCache(10, entries=5, max_bytes=10_000))
    assert kept.key(live, RecommendRequest(user_id="user-0003", history=["item-0001"])) is None
    assert kept.key(exploring, RecommendRequest(user_id="user-0003")) is None
    assert kept.key(exploring, RecommendRequest(user_id="user-0003", explore=False)) is not None
    key = kept.key(live, RecommendRequest(user_id="user-0003"))

    async def asked():
        assert await kept.get(None) is None
        assert await kept.get(key) is None
        kept.put(key, b"list")
        kept.put(None, b"other")
        assert [await kept.get(key) for _ in range(3)] == [b"list"] * 3

    asyncio.run(asked())
    assert kept.counted() == {"yes": 3, "no": 1}
    assert kept.counted() == {"yes": 0, "no": 0}


def test_without_a_cache_nothing_is_kept(live):
    kept = KeptLists(None)
    assert kept.key(live, RecommendRequest(user_id="user-0003")) is None
    assert asyncio.run(kept.get(None)) is None


def test_settings_name_the_cache():
    def made(**fields):
        return ServiceSettings(model_name="m", **fields).kept_lists()._cache

    assert isinstance(made(), MemoryCache)
    assert isinstance(made(cache="redis://somewhere:1/0"), RedisCache)
    assert made(cache="none") is None
    with pytest.raises(ConfigError, match=r"'memroy' is neither .* Did you mean 'memory'"):
        made(cache="memroy")
    with pytest.raises(ConfigError, match="The cache is no URL of a Redis"):
        made(cache="redis://host:port/0")
    with pytest.raises(ValidationError, match="cache_ttl_s"):
        made(cache_ttl_s=0)


# ---- in Redis


@contextlib.asynccontextmanager
async def redis_cache(url, ttl_s=60.0, clock=None):
    cache = RedisCache(url, ttl_s, clock or Clock())
    try:
        yield cache
    finally:
        await cache.close()


@pytest.fixture
def patient(monkeypatch):
    """Wait for a Redis that answers however long a busy machine takes."""
    monkeypatch.setattr(cache_module, "_REDIS_TIMEOUT_S", 30.0)


def test_lists_in_redis_are_there_for_every_replica_until_they_are_old(redis_server, patient):
    async def calls():
        async with redis_cache(redis_server.url) as one, redis_cache(redis_server.url, 0.05) as other:
            assert await one.get("a") is None
            one.put("a", b"list")
            other.put("b", b"short")
            await one.written()
            await other.written()
            await asyncio.sleep(0.1)
            assert [await other.get("a"), await one.get("b")] == [b"list", None]
            assert 0 < await one._redis.pttl(f"{cache_module._PREFIX}a") <= 60_000

    asyncio.run(calls())


def test_a_redis_that_is_away_costs_one_warning_and_is_used_when_it_is_back(redis_server, patient, caplog):
    clock = Clock()

    async def calls():
        async with redis_cache(redis_server.url, clock=clock) as cache:
            cache.put("a", b"list")
            await cache.written()
            redis_server.stop()
            for _ in range(20):
                assert await cache.get("a") is None
                cache.put("a", b"list")
            clock.now += _REDIS_PAUSE_S + 1
            assert await cache.get("a") is None
            redis_server.start()
            assert await cache.get("a") is None  # left alone still
            clock.now += _REDIS_PAUSE_S + 1
            cache.put("a", b"again")
            await cache.written()
            assert await cache.get("a") == b"again"

    asyncio.run(calls())
    assert [record.levelno for record in caplog.records if record.name == cache_module.__name__] == [logging.WARNING]


def test_a_redis_that_does_not_answer_is_waited_for_once(redis_server, caplog, monkeypatch):
    waits = []
    monkeypatch.setattr(
        cache_module.asyncio, "timeout", lambda seconds: waits.append(seconds) or asyncio.timeouts.timeout(seconds)
    )

    async def calls():
        async with redis_cache(redis_server.url) as cache:
            waits.clear()
            with redis_server.halted():
                assert [await cache.get("a") for _ in range(20)] == [None] * 20
            assert len(waits) == 1

    asyncio.run(calls())
    assert len(caplog.records) == 1


def test_warnings_of_a_long_absence_say_how_many_there_were(caplog):
    clock = Clock()

    async def calls():
        async with redis_cache("redis://127.0.0.1:1/0", clock=clock) as cache:
            for _ in range(40):
                assert await cache.get("a") is None
                clock.now += _REDIS_PAUSE_S

    asyncio.run(calls())
    assert len(caplog.records) == 2
    assert "(29 times more since the last such line)" in caplog.records[1].message


def test_what_is_no_list_in_redis_is_none(redis_server, patient):
    async def calls():
        async with redis_cache(redis_server.url) as cache:
            await cache._redis.lpush(f"{cache_module._PREFIX}a", "x")
            assert await cache.get("a") is None

    asyncio.run(calls())
