"""The logs of events and items: nothing is lost, nothing counts twice, and every replica sees the same."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coldray.core.errors import DataFormatError, StoreError
from coldray.serving.live.store import _LONGEST_WRITE_S, Follower, NewEvent, Store
from contracts.feedback import put_event

ids = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=20))


def test_an_item_comes_changes_and_goes_in_that_order(store):
    store.put_item("a", {"genres": ["x"], "year": 1999.5})
    store.put_item(7, {"title": 'Ünïcode "quoted"'})
    store.put_item("a", None)
    found = store.items_since(0)
    assert [(change.item_id, change.attributes) for change in found] == [
        ("a", {"genres": ["x"], "year": 1999.5}),
        (7, {"title": 'Ünïcode "quoted"'}),
        ("a", None),
    ]
    assert [change.seq for change in found] == sorted({change.seq for change in found})
    assert store.items_since(found[1].seq) == found[2:]
    assert store.items_since(found[2].seq) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ids, ids, st.none() | st.floats(-5, 5)), max_size=5), st.integers(0, 10**9))
def test_events_come_back_as_they_were(store, events, number):
    last = max((event.seq for event in store.events_since(0)), default=0)
    for place, (user, item, rating) in enumerate(events):
        assert put_event(store, f"{number}-{last}-{place}", user, item, rating)
    found = [(event.user_id, event.item_id, event.rating) for event in store.events_since(last)]
    assert found == events
    assert [type(user) for user, _, _ in found] == [type(user) for user, _, _ in events]


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("uv"), st.sampled_from([None, 2.0])), max_size=5),
        max_size=4,
    )
)
def test_events_that_are_written_together_are_those_that_are_written_one_by_one(batches):
    """Doubled within a batch and since earlier ones, the same or others under their ids."""
    together, alone = Store("sqlite://"), Store("sqlite://")
    for batch in batches:
        events = [NewEvent(event_id, user, "i", rating) for event_id, user, rating in batch]
        expected = [alone.put_events([event])[0] for event in events]
        assert list(map(str, together.put_events(events))) == list(map(str, expected))
    found, expected = ([replace(event, at=0.0) for event in store.events_since(0)] for store in (together, alone))
    assert found == expected
    together.close()
    alone.close()


def test_an_event_counts_once_however_often_it_is_sent(store):
    assert put_event(store, "e", "u", "i", None)
    assert not put_event(store, "e", "u", "i", None)
    assert len(store.events_since(0)) == 1
    for other in (("v", "i", None), ("u", "j", None), ("u", "i", 3.0)):
        with pytest.raises(DataFormatError, match="event_id: 'e' is the id of another event"):
            put_event(store, "e", *other)
    with pytest.raises(DataFormatError, match="event_id: 'e' is the id of another event"):
        put_event(store, "e", "u", "i", None, clicked=False)
    assert not put_event(store, "e", "u", "i", None, context={"score": 1.0})
    assert put_event(store, "f", "u", "i", None, clicked=False, context={"score": 0.5})
    assert not put_event(store, "f", "u", "i", None, clicked=False)
    assert [(event.clicked, event.context) for event in store.events_since(0)] == [
        (True, None),
        (False, {"score": 0.5}),
    ]


OLD_TABLES = """
CREATE TABLE item_log (
    seq INTEGER NOT NULL, item_id TEXT NOT NULL, attributes TEXT, at FLOAT NOT NULL, PRIMARY KEY (seq)
);
CREATE TABLE event_log (
    seq INTEGER NOT NULL, event_id VARCHAR(200) NOT NULL, user_id TEXT NOT NULL, item_id TEXT NOT NULL, rating FLOAT,
    at FLOAT NOT NULL, PRIMARY KEY (seq), UNIQUE (event_id)
);
INSERT INTO event_log VALUES (1, 'old', '"u"', '"i"', 4.5, 100.0);
"""


def test_a_database_of_an_earlier_version_goes_on_and_that_version_may_still_write(tmp_path):
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection, connection:
        connection.executescript(OLD_TABLES)
    stores = [Store.at(tmp_path / "old.db") for _ in range(2)]
    assert not put_event(stores[0], "old", "u", "i", 4.5)
    with pytest.raises(DataFormatError, match="another event"):
        put_event(stores[0], "old", "u", "i", 4.5, clicked=False)
    assert put_event(stores[0], "new", "u", "j", None, clicked=False, context={"score": 0.25})
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection, connection:
        columns = "(event_id, user_id, item_id, rating, at)"
        connection.execute(f"INSERT INTO event_log {columns} VALUES ('late', '\"u\"', '\"k\"', NULL, 101.0)")
    found = [(event.event_id, event.clicked, event.context) for event in stores[1].events_since(0)]
    assert found == [("old", True, None), ("new", False, {"score": 0.25}), ("late", True, None)]
    for store in stores:
        store.close()


def test_replicas_that_open_an_old_database_at_the_same_time_both_do(tmp_path, monkeypatch):
    """One finds the column missing, and there when it adds it."""
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection, connection:
        connection.executescript(OLD_TABLES)
    make, others = Store._make_tables, []

    def late(store):
        begin = store._begin

        def after_another():
            if not others:
                others.append(None)
                monkeypatch.setattr(Store, "_make_tables", make)
                others.append(Store.at(tmp_path / "old.db"))
            return begin()

        store._begin = after_another
        make(store)

    monkeypatch.setattr(Store, "_make_tables", late)
    store = Store.at(tmp_path / "old.db")
    assert len(others) == 2
    assert put_event(store, "new", "u", "j", None, clicked=False)
    assert [event.clicked for event in others[1].events_since(1)] == [False]
    store.close()
    others[1].close()


def test_two_replicas_see_each_others_entries(tmp_path):
    first, second = (Store.at(tmp_path / "shared.db") for _ in range(2))
    put_event(first, "a", "u", "i", 1.0)
    put_event(second, "b", "u", "i", 2.0)
    second.put_item("x", {})
    assert [event.event_id for event in first.events_since(0)] == ["a", "b"]
    assert first.items_since(0) == second.items_since(0)
    for store in (first, second):
        store.close()


def write(path, seq, item, attributes="{}", at=100.0):
    """Commit an entry of a number that was given out earlier, as a second writer of Postgres would."""
    with closing(sqlite3.connect(path)) as connection, connection:
        row = (seq, json.dumps(item), attributes, at)
        connection.execute("INSERT INTO item_log (seq, item_id, attributes, at) VALUES (?, ?, ?, ?)", row)


def test_an_entry_that_is_committed_after_one_with_a_higher_number_is_not_missed(store, tmp_path):
    path, now = tmp_path / "store.db", 101.0
    follower = Follower(store.items_since, clock=lambda: now)
    write(path, 1, "a")
    assert [change.item_id for change in follower.read()] == ["a"]
    write(path, 3, "b", None)
    write(path, 4, "c")
    assert [change.item_id for change in follower.read()] == ["b", "c"]
    assert follower.read() == []
    write(path, 2, "b")
    assert [(change.item_id, change.attributes) for change in follower.read()] == [("b", {}), ("b", None), ("c", {})]
    assert follower.read() == []


def test_a_gap_is_given_up_in_time_and_what_is_settled_is_not_read_again(store, tmp_path):
    path, now, asked = tmp_path / "store.db", 101.0, []

    def since(seq):
        asked.append(seq)
        return store.items_since(seq)

    follower = Follower(since, clock=lambda: now)
    for seq in (1, 2, 5, 6):
        write(path, seq, seq)
    assert [change.seq for change in follower.read()] == [1, 2, 5, 6]
    write(path, 9, 9, at=150.0)
    assert [change.seq for change in follower.read()] == [9]
    now = 101.0 + _LONGEST_WRITE_S
    assert follower.read() == []
    assert follower.read() == []
    assert asked == [0, 2, 2, 6]
    assert [change.seq for change in Follower(store.items_since).read()] == [1, 2, 5, 6, 9]


def test_what_was_answered_for_survives_the_death_of_the_process(tmp_path):
    path = tmp_path / "killed.db"
    code = (
        "import os, pathlib; from coldray.serving.live.store import NewEvent, Store\n"
        f"store = Store.at(pathlib.Path({str(path)!r}))\n"
        "store.put_events([NewEvent('e', 'u', 'i', 4.5)]); store.put_item('n', {'year': 2000})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    store = Store.at(path)
    assert [event.rating for event in store.events_since(0)] == [4.5]
    assert store.items_since(0)[0].attributes == {"year": 2000}
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_an_infinite_number_is_not_written(store):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.put_item("a", {"year": float("inf")})
    assert store.items_since(0) == []


@pytest.mark.parametrize("url", ["no url", "sqlite:////nowhere/at/all.db", "unheard+of://host/db"])
def test_a_store_that_cannot_be_opened_is_named(url):
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(url)


def test_a_password_is_not_in_the_message():
    with pytest.raises(StoreError) as caught:
        Store("sqlite://user:secret@host/nothing.db")
    assert "secret" not in str(caught.value)
