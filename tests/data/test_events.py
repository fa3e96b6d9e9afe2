"""Kinds of events: several of a pair become the strongest, counted, and kept with their pair wherever it goes."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import coldray
from coldray.core.errors import ConfigError, DataFormatError, MissingFieldError, UnweightedEventError
from coldray.data.dataset import rows_of
from coldray.data.filters import FilterConfig, apply_filters
from coldray.data.signals import Reads
from coldray.data.splits.interactions import interaction_splits

WEIGHTS = {"view": 1, "purchase": 5, "cart": 2.5}
NAMES = {"user": "u", "item": "i", "event": "kind", "timestamp": "t"}
START = 1_700_000_000
EVENTS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.sampled_from(sorted(WEIGHTS)), st.integers(0, 50)),
    min_size=1,
    max_size=25,
)


def table(events):
    columns = list(zip(*events, strict=True))
    times = [START + time for time in columns[3]]
    return pl.DataFrame({"u": columns[0], "i": columns[1], "kind": columns[2], "t": times})


def read(events, weights=WEIGHTS, **options):
    return coldray.load_dataset(table(events), event_weights=weights, **NAMES, **options)


def cells(data, matrix):
    """Return what a matrix stores, by ids."""
    pairs = zip(data.user_ids[rows_of(matrix)].tolist(), data.item_ids[matrix.indices].tolist(), strict=True)
    return dict(zip(pairs, matrix.data.tolist(), strict=True))


@given(EVENTS)
def test_a_pair_has_the_weight_of_its_strongest_event_and_the_time_of_its_latest(events):
    strongest, latest = {}, {}
    for user, item, kind, time in events:
        pair = (user, item)
        if pair not in strongest or WEIGHTS[kind] > WEIGHTS[strongest[pair]]:
            strongest[pair] = kind
        latest[pair] = max(latest.get(pair, 0), START + time)
    data = read(events)
    assert cells(data, data.events) == {pair: WEIGHTS[kind] for pair, kind in strongest.items()}
    assert cells(data, data.timestamps) == latest
    assert cells(data, data.interactions) == dict.fromkeys(strongest, 1.0)
    told = data.provenance["events"]
    assert list(told["weights"].items()) == [("purchase", 5.0), ("cart", 2.5), ("view", 1.0)]
    assert {kind: count for kind, count in told["read"].items() if count} == Counter(event[2] for event in events)
    assert {kind: count for kind, count in told["strongest"].items() if count} == Counter(strongest.values())


SOME = [(1, "a", "view", 3), (1, "a", "purchase", 1), (1, "b", "view", 7), (2, "a", "cart", 2), (2, "c", "view", 9)]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_say_the_same_as_frames(tmp_path, suffix):
    path = tmp_path / f"events.{suffix}"
    getattr(table(SOME), f"write_{suffix}")(path)
    data, framed = coldray.load_dataset(path, event_weights="purchase=5, view=1,cart=2.5", **NAMES), read(SOME)
    assert data.fingerprint == framed.fingerprint
    assert "5 events, 1 purchase (weight 5), 1 cart (weight 2.5), 3 view (weight 1), are 4 inter" in data.notes[0]
    assert "(1 purchase, 1 cart, 2 view) and the time of its latest" in data.notes[0]
    assert dict(data.facts)["interactions"] == "4 with timestamps and events"


def test_the_fingerprint_knows_what_events_are_worth():
    found = {read(SOME, {**WEIGHTS, "purchase": weight}).fingerprint for weight in (5, 6)}
    assert len(found | {replace(read(SOME), events=None).fingerprint}) == 3
    assert read(SOME[::-1]).fingerprint == read(SOME).fingerprint


def test_kinds_of_equal_weight_are_told_by_the_first():
    told = read(SOME, {"cart": 1, "view": 1, "purchase": 1}).provenance["events"]
    assert told["strongest"] == {"cart": 1, "view": 3, "purchase": 0}


def test_a_weight_of_a_kind_that_does_not_occur_is_told():
    notes = read(SOME, {**WEIGHTS, "rating": 3}).notes
    assert "no event is of the kind rating, which has a weight" in notes[1]


def test_kinds_may_be_numbers_and_blanks_around_them_are_no_part():
    frame = {"user_id": [1, 1, 2], "item_id": [1, 2, 1], "k": [0, 1, 0]}
    assert coldray.load_dataset(frame, event="k", event_weights={"0": 1, "1": 4}).events.data.tolist() == [1, 4, 1]
    spaced = {**frame, "k": ["view ", " buy", "view"]}
    assert coldray.load_dataset(spaced, event="k", event_weights="view=1,buy=4").events.data.tolist() == [1, 4, 1]


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        (["view", "purchse", "purchse"], r"2 of 3 events have no weight: 2 'purchse'\. Did you mean 'purchase'\?"),
        (["view", None, " "], "2 of 3 events have no weight: 2 of no kind"),
        (["wish", "view", "like"], "1 'like', 1 'wish'.*given for cart, purchase, view; add theirs"),
    ],
)
def test_events_without_a_weight_are_counted_and_refused(kinds, told):
    frame = {"user_id": [1, 2, 3], "item_id": [1, 1, 1], "k": kinds}
    with pytest.raises(UnweightedEventError, match=told):
        coldray.load_dataset(frame, event="k", event_weights=WEIGHTS)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"view": 0}, "greater than 0"),
        ({"view": -1}, "greater than 0"),
        ({"view": math.nan}, "finite|greater"),
        ({"view": math.inf}, "finite|less"),
        ({"view": 1e7}, "less than or equal to 1000000"),
        ({}, "at least 1 item"),
        ("view", "no kind with a weight. Write purchase=5,view=1"),
        ("view=1,=2", "no kind with a weight"),
        ("view=1,view=2", "two weights, 1 and 2"),
        (None, "event_column is given and event_weights is not"),
    ],
)
def test_weights_that_are_none_are_refused(weights, told):
    with pytest.raises(ConfigError, match=told):
        read(SOME, weights)


def test_options_that_do_not_go_together_are_refused():
    frame = {"user_id": [1], "item_id": [1], "k": ["view"], "r": [3]}
    with pytest.raises(ConfigError, match="event_weights is given and event_column is not"):
        coldray.load_dataset(frame, event_weights={"view": 1})
    with pytest.raises(ConfigError, match="'k' and rating_column 'r' are both given"):
        coldray.load_dataset(frame, event="k", event_weights={"view": 1}, rating="r")
    with pytest.raises(ConfigError, match="'event' describes data of your own"):
        coldray.load_dataset("sample", event="k", event_weights={"view": 1})
    with pytest.raises(ConfigError, match="reads ratings of clicks, or weights"):
        Reads(ratings=True) | Reads(events=True)


def generated(seed=0, n_users=30, n_items=20, n_events=900):
    """Return events of a seed, several of most pairs, and a dataset of them."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(sorted(WEIGHTS), n_events, p=[0.2, 0.1, 0.7]).tolist()
    drawn = [rng.integers(0, n, n_events).tolist() for n in (n_users, n_items, 5000)]
    return read([(u, f"i{i:02d}", kind, t) for u, i, kind, t in zip(*drawn[:2], kinds, drawn[2], strict=True)])


def test_weights_go_where_their_pairs_go():
    data = generated()
    weights = cells(data, data.events)
    core = apply_filters(data, FilterConfig(min_user_interactions=12, min_item_interactions=18))
    assert 0 < core.interactions.nnz < data.interactions.nnz
    some = data.take_users(np.arange(0, 30, 3)).take_items(np.arange(1, 20, 2))
    for part in (core, some):
        found = cells(part, part.events)
        assert found == {pair: weights[pair] for pair in cells(part, part.interactions)}
    assert {(user, item): weight for (item, user), weight in cells(data.of_users, data.of_users.events).items()} == (
        weights
    )
    for protocol in ("leave-last", "user-holdout"):
        split = next(interaction_splits(data, protocol=protocol))
        for fold in (split.for_tuning().fold, split.test_fold):
            read_fold = fold.as_read(Reads(events=True))
            for one, clicks in ((read_fold.train, fold.train), (read_fold.held_out, fold.held_out)):
                assert cells(fold.dataset, one) == {pair: weights[pair] for pair in cells(fold.dataset, clicks)}


def test_weights_and_places_are_read_at_once():
    data = generated()
    both = Reads(order=True, events=True).of(data).interactions
    np.testing.assert_array_equal(both.data.real, data.events.data)
    np.testing.assert_array_equal(both.data.imag, Reads(order=True).of(data).interactions.data)
    with pytest.raises(MissingFieldError, match=r"no kinds of events.*--event-column"):
        Reads(events=True).of(replace(data, events=None))


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_a_dataset_has_no_weights_that_say_nothing(weight):
    data = read(SOME)
    broken = data.events.copy()
    broken.data[0] = weight
    with pytest.raises(DataFormatError, match="must be above 0 and finite"):
        replace(data, events=broken)
