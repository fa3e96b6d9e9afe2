"""What replicas learn from the log: the same, whenever they read it and in whatever order it came."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.serving.engine.queries import Query
from coldray.serving.live.model import LiveModel
from coldray.serving.live.store import Event, ItemChange
from contracts.exploring import LINUCB, THOMPSON, VERSION, feed, items_of, record
from contracts.feedback import put_event, send_event


def state(live):
    """Return all that a replica has learned, as numbers that are compared bit by bit."""
    bandit = live.engine.explorer.bandit
    learned = [bandit.gram, bandit.moment, bandit.sums] if hasattr(bandit, "gram") else [bandit.clicks, bandit.misses]
    sums = {item: sums.tolist() for item, sums in live._outcomes.sums.items()}
    return [array.tolist() for array in learned], sums


class SharedLog:
    """A store in memory whose entries are committed in any order, as a database with several writers does."""

    def __init__(self):
        self.events, self.changes = {}, {}

    def events_since(self, seq):
        return [self.events[number] for number in sorted(self.events) if number > seq]

    def items_since(self, seq):
        return [self.changes[number] for number in sorted(self.changes) if number > seq]


@st.composite
def histories(draw):
    """Return the entries of a log in the order of their commits, and which replica reads after each, if any does."""
    share = st.integers(0, 1024).map(lambda number: number / 1024)
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["item-0003", "item-0004", "new", "unknown"]), share, share, st.booleans(),
                st.sampled_from(["user-0001", "x"]),
            ),
            max_size=12,
        )
    )  # fmt: skip
    entries = [
        Event(seq, str(seq), user, item, None, time.time(), clicked, {"score": score, "history": history})
        for seq, (item, score, history, clicked, user) in enumerate(rows, 1)
    ]
    order = draw(st.permutations([*entries, ItemChange(1, "new", {"genres": ["drama"]}, time.time())]))
    return order, draw(st.lists(st.sampled_from([None, 0, 1]), min_size=len(order), max_size=len(order)))


@settings(max_examples=40)
@given(histories(), st.sampled_from([LINUCB, THOMPSON]))
def test_replicas_learn_the_same_whatever_they_read_when_and_so_does_one_that_starts(log, config):
    """Each event counts once, though a follower returns some again, and items may come after what became of them."""
    bundle, store = CACHE["bundle"], SharedLog()
    replicas = [LiveModel(bundle, VERSION, store, config) for _ in range(2)]
    for entry, reader in zip(*log, strict=True):
        (store.events if isinstance(entry, Event) else store.changes)[entry.seq] = entry
        if reader is not None:
            replicas[reader].refresh()
    for replica in replicas:
        replica.refresh()
        replica.refresh()
    restarted = LiveModel(bundle, VERSION, store, config)
    assert state(replicas[0]) == state(replicas[1]) == state(restarted)
    counted = sum(sums[0][0] for sums in state(restarted)[1].values())
    assert counted == sum(isinstance(entry, Event) for entry in log[0])
    asked = [Query(user_id=user, draw=3) for user in ("user-0001", "x", "nobody")]
    lists = [[items_of(answer) for answer in live.engine.answer(asked)] for live in (*replicas, restarted)]
    assert lists[0] == lists[1] == lists[2]


CACHE = {}


@pytest.fixture(scope="module", autouse=True)
def _keep(bundle):
    CACHE.update(bundle=bundle)


def test_two_replicas_on_one_file_and_one_after_a_restart_have_learned_the_same(bundle, open_store, tmp_path):
    path = tmp_path / "shared.db"
    first, second = (LiveModel(bundle, VERSION, open_store(path), LINUCB) for _ in range(2))
    items = bundle.item_ids.tolist()
    feed(first, "user-0001", items[:4], clicked=True)
    feed(second, "user-0001", items[3:9], clicked=False)
    feed(first, "stranger", items[2:6], clicked=False)
    second.refresh()
    restarted = LiveModel(bundle, VERSION, open_store(path), LINUCB)
    assert state(first) == state(second) == state(restarted)
    assert restarted.engine.explorer.bandit.gram[33, 33] == 14
    assert restarted.engine.explorer.bandit.moment[33] == 4


def test_a_changed_item_is_learned_of_by_what_it_is_now(bundle, open_store):
    store, other = open_store(), open_store()
    live = LiveModel(bundle, VERSION, store, LINUCB)
    store.put_item("new", record(bundle, 4))
    live.refresh()
    feed(live, "user-0001", ["new", "item-0003"], clicked=True)
    store.put_item("new", record(bundle, 20))
    live.refresh()
    assert send_event(live, "again", "user-0002", "new", None, clicked=False)
    live.refresh()
    other.put_item("new", record(bundle, 20))
    for event in store.events_since(0):
        put_event(
            other, event.event_id, event.user_id, event.item_id, None, clicked=event.clicked, context=event.context
        )
    assert state(live) == state(LiveModel(bundle, VERSION, other, LINUCB))
    assert len(live._outcomes.sums) == 2


def test_what_was_read_is_not_lost_when_the_rest_of_the_store_does_not_answer(bundle, open_store, monkeypatch):
    store = open_store()
    live = LiveModel(bundle, VERSION, store, LINUCB)
    store.put_item("new", record(bundle, 4))
    monkeypatch.setattr(live._clicks, "_since", lambda seq: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        live.refresh()
    assert live.engine.knows_item("new")
