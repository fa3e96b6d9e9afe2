"""Contexts of interactions: read from their own table, and kept with their interaction wherever it goes."""

from contextlib import suppress
from dataclasses import replace
from functools import cache, partial

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import coldray
from coldray.core.errors import ConfigError, DataFormatError, EmptyDatasetError
from coldray.data.dataset import LabelAttribute, TextAttribute, rows_of
from coldray.data.filters import FilterConfig, apply_filters
from coldray.data.moments import contexts_of
from coldray.data.signals import Reads
from coldray.data.splits.interactions import interaction_splits
from coldray.data.splits.items import cold_item_splits
from coldray.data.splits.recsys_cold import recsys_cold_splits
from coldray.data.splits.warming import warming_splits
from coldray.data.uninformative import with_oddities_noted

CLICKS = {
    "u": [1, 1, 2, 2, 3], "i": list("abbca"), "device": ["tv", "phone|tv", " ", "phone", None],
    "heat": [20.5, None, -3, float("nan"), 20.5],
}  # fmt: skip
READ = {"user": "u", "item": "i", "context_labels": ["device"], "context_numbers": ["heat"]}


def said(data):
    """Return what the contexts of a dataset say of each interaction, by its ids."""
    clicks, read = data.interactions, contexts_of(data)
    users, items = data.user_ids[rows_of(clicks)].tolist(), data.item_ids[clicks.indices].tolist()
    values = [_values(read[name], len(users)) for name in sorted(read)]
    return dict(zip(zip(users, items, strict=True), zip(*values, strict=True), strict=True))


def _values(attribute, n):
    if isinstance(attribute, LabelAttribute):
        return [frozenset(attribute.labels[attribute.matrix[[row]].indices].tolist()) for row in range(n)]
    return [None if np.isnan(value) else float(value) for value in attribute.values]


SAID = {
    (1, "a"): ({"tv"}, 20.5), (1, "b"): ({"tv", "phone"}, None), (2, "b"): (set(), -3.0),
    (2, "c"): ({"phone"}, None), (3, "a"): (set(), 20.5),
}  # fmt: skip


def test_each_interaction_is_in_its_own_context_and_what_is_unknown_is_counted():
    data = coldray.load_dataset(CLICKS, **READ)
    assert said(data) == SAID
    told = " ".join(data.notes)
    assert "column 'device': 2 of 5 interactions have none" in told
    assert "column 'heat': 2 of 5 interactions have none" in told
    assert dict(data.facts)["context device"] == "2 labels"
    assert dict(data.facts)["context heat"] == "number"
    assert "context: device (2 labels), heat (number)" in repr(data)


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_files_say_the_same_as_frames(tmp_path, ending):
    path, table = tmp_path / f"clicks.{ending}", pl.DataFrame(CLICKS, strict=False)
    if ending == "parquet":
        table.write_parquet(path)
    else:
        table.write_csv(path, separator="\t" if ending == "tsv" else ",")
    data = coldray.load_dataset(path, **READ)
    assert said(data) == SAID
    assert data.fingerprint == coldray.load_dataset(CLICKS, **READ).fingerprint


def test_lists_booleans_and_codes_are_labels_and_words_of_missing_numbers_are_told():
    clicks = {"u": [1, 2, 3], "i": [1, 2, 3], "seen": [["b", "a"], [], None], "app": [True, False, None]}
    clicks |= {"store": [7, 8, 7], "heat": ["1", "NA", "2"]}
    columns = {"context_labels": ["seen", "app", "store"], "context_numbers": ["heat"]}
    data = coldray.load_dataset(clicks, user="u", item="i", **columns)
    assert said(data) == {  # app, heat, seen, store
        (1, 1): ({"true"}, 1.0, {"a", "b"}, {"7"}),
        (2, 2): ({"false"}, None, set(), {"8"}),
        (3, 3): (set(), 2.0, set(), {"7"}),
    }
    assert any("1 values (NA) are taken as not known" in note for note in data.notes)


@pytest.mark.parametrize(
    ("columns", "error", "words"),
    [
        ({"context_labels": ["devise"]}, DataFormatError, "no column 'devise'. Did you mean 'device'"),
        ({"context_numbers": ["device"]}, DataFormatError, "'device': .* values are no number"),
        ({"context_labels": ["heat"], "context_numbers": ["heat"]}, ConfigError, "'heat' is given as an attribute tw"),
        ({"context_labels": ["heat"], "rating": "heat"}, ConfigError, "'heat' is given as a context, and as rating_co"),
        ({"context_labels": ["u"]}, ConfigError, "as user_column: context is what else was known"),
    ],
)  # fmt: skip
def test_columns_that_are_none_of_context_are_refused(columns, error, words):
    with pytest.raises(error, match=words):
        coldray.load_dataset(CLICKS, user="u", item="i", **columns)


def test_a_dataset_that_has_a_name_takes_no_columns():
    with pytest.raises(ConfigError, match="'context_labels' describes data of your own"):
        coldray.load_dataset("sample", context_labels=["device"])


EVENTS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.sampled_from(["tv", "pc", None]), st.integers(0, 4)),
    min_size=1,
    max_size=20,
)


@given(EVENTS, st.booleans())
def test_of_several_events_of_a_pair_the_context_of_the_latest_is_kept(events, timed):
    users, items, devices, times = map(list, zip(*events, strict=True))
    clicks = {"u": users, "i": items, "device": pl.Series(devices, dtype=pl.String), "t": [10**9 + t for t in times]}
    clicks = pl.DataFrame({**clicks, "kind": ["view"] * len(users)})
    read = {"event": "kind", "event_weights": {"view": 1}, "timestamp": "t" if timed else None}
    data = coldray.load_dataset(clicks, user="u", item="i", context_labels=["device"], **read)
    latest, seen = {}, {}
    for row, (user, item, device, time) in enumerate(events):
        seen.setdefault((user, item), set()).add(device)
        latest[user, item] = max(latest.get((user, item), (-1, -1, None)), (time if timed else 0, row, device))
    assert said(data) == {pair: ({device} - {None},) for pair, (*_, device) in latest.items()}
    several = sum(len(devices) > 1 for devices in seen.values())
    told = [note for note in data.notes if "in several contexts" in note]
    assert len(told) == bool(several)
    assert all(f"{several} of {len(seen)} interactions have events in several contexts" in note for note in told)
    assert set(data.context["device"].labels) == {device for *_, device in latest.values()} - {None}


def test_the_context_of_a_rating_is_of_its_one_row():
    ratings = {**CLICKS, "stars": [1, 2, 3, 4, 5]}
    assert said(coldray.load_dataset(ratings, rating="stars", **READ)) == SAID
    doubled = {name: [*cells, cells[0]] for name, cells in ratings.items()}
    with pytest.raises(DataFormatError, match="1 repeated rows"):
        coldray.load_dataset(doubled, rating="stars", **READ)


def test_notes_of_other_tables_are_kept_beside_events(tmp_path):
    clicks = pl.DataFrame({**CLICKS, "kind": ["view"] * 5}, strict=False)
    clicks.write_csv(tmp_path / "clicks.csv")
    (tmp_path / "people.csv").write_text("u,age\n1,20\nu,age\n2,NA\n3,40\n")
    read = {"event": "kind", "event_weights": "view=1", "users": tmp_path / "people.csv", "user_numbers": ["age"]}
    told = " ".join(coldray.load_dataset(tmp_path / "clicks.csv", **read, **READ).notes)
    for words in (
        "its header is there 1 times more",
        "5 events",
        "'device': 2 of 5",
        "0 of 3 users have no row",
        "(NA)",
    ):
        assert words in told


@cache
def generated(n_users=60, n_items=40):
    """Return a dataset in which the device names the interaction it belongs to, and the heat numbers it."""
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(n_users) for i in sorted(rng.choice(n_items, 12, replace=False).tolist())]
    clicks = {"u": [u for u, _ in pairs], "i": [i for _, i in pairs], "t": rng.integers(10**9, 2 * 10**9, len(pairs))}
    clicks |= {"device": [f"{u}-{i}" for u, i in pairs], "heat": [float(1000 * u + i) for u, i in pairs]}
    clicks |= {"stars": rng.integers(1, 6, len(pairs))}
    return coldray.load_dataset(pl.DataFrame(clicks), timestamp="t", rating="stars", **READ)


def own(data):
    """Whether each interaction of a dataset leads to its own context; of users in the place of items, too."""
    return said(data) == {(u, i): ({f"{u}-{i}"}, 1000.0 * u + i) for u, i in said(data)}


def names_in(data):
    return set(data.context["device"].labels.tolist())


@settings(max_examples=25)
@given(st.integers(1, 14), st.integers(1, 22), st.sampled_from([None, 2.0, 4.0]), st.randoms(use_true_random=False))
def test_whatever_is_left_out_each_interaction_leads_to_its_own_context(users, items, rating, random):
    data = generated()
    kept = data.take_users(np.array(sorted(random.sample(range(data.n_users), 50))))
    kept = kept.take_items(np.array(sorted(random.sample(range(data.n_items), 35))))
    assert own(kept)
    core = FilterConfig(min_user_interactions=users, min_item_interactions=items, min_rating_exclusive=rating)
    with suppress(EmptyDatasetError):
        kept = apply_filters(kept, core)
    assert own(kept)
    assert own(kept.of_clicked_items())
    spare = kept.without_unused_labels()
    assert own(spare)
    assert spare.fingerprint == replace(kept, context=spare.context, context_rows=spare.context_rows,
                                        attributes=spare.attributes).fingerprint  # fmt: skip
    pairs = {f"{user}-{item}" for user, item in said(kept)}
    assert names_in(spare) == pairs
    assert {(item, user): one for (user, item), one in said(kept.of_users).items()} == said(kept)


SPLITS = {
    **dict.fromkeys(("leave-last", "temporal", "user-holdout", "rolling-origin"), interaction_splits),
    "k-fold": partial(interaction_splits, n_splits=3),
    "notebook": partial(cold_item_splits, n_splits=1, seed=1),
    **dict.fromkeys(("item-warming", "user-warming", "user-cold"), warming_splits),
    "recsys-cold": lambda data, protocol: recsys_cold_splits(data),
}


@pytest.mark.parametrize("protocol", SPLITS)
def test_splits_keep_contexts_and_tuning_sees_none_of_the_test(protocol):
    split = next(iter(SPLITS[protocol](generated(), protocol=protocol)))
    tuning, test = split.for_tuning().fold, split.test_fold
    for fold in (tuning, test):
        assert own(fold.dataset)
        assert own(fold.as_read(Reads(order=True)).dataset)
    hidden = {f"{u}-{i}" for u, i in pairs_of(test.dataset, test.held_out)}
    assert hidden
    assert not hidden & names_in(tuning.dataset)
    assert len(tuning.dataset.context["heat"].values) == tuning.dataset.interactions.nnz


def pairs_of(data, clicks):
    return zip(data.user_ids[rows_of(clicks)].tolist(), data.item_ids[clicks.indices].tolist(), strict=True)


def test_contexts_that_say_nothing_are_told():
    clicks = {**CLICKS, "one": ["x"] * 5, "none": [None] * 5, "session": list("pqrst"), "heat": [1, 1, None, 1, 1]}
    names = {"context_labels": ["one", "none", "session", "device"], "context_numbers": ["heat"]}
    told = " ".join(with_oddities_noted(coldray.load_dataset(clicks, user="u", item="i", **names)).notes)
    for words in (
        "Context 'one' tells no interactions apart: all have the same labels.",
        "Context 'none' tells no interactions apart: none has a label.",
        "Context 'session' is another in each of 5 interactions",
        "Context 'heat' tells no interactions apart: it is 1 of every one whose number is known.",
    ):
        assert words in told
    assert "'device' " not in told.replace("column 'device'", "")


def test_a_number_of_a_context_that_can_hardly_be_is_told():
    clicks = {"u": list(range(40)), "i": [n % 4 for n in range(40)], "heat": [20.0 + n % 7 for n in range(39)] + [9e9]}
    data = coldray.load_dataset(clicks, user="u", item="i", context_numbers=["heat"])
    told = with_oddities_noted(data).notes
    assert any("Context 'heat': 1 of 40 interactions are far from the others (9e+09)" in note for note in told)


def test_texts_of_contexts_go_with_their_interactions():
    data = coldray.load_dataset(CLICKS, **READ)
    texts = TextAttribute(tuple(f"{place}" for place in range(len(data.context["heat"].values))))
    asked = replace(data, context={"asked": texts}).without_unused_contexts()
    rows = data.context_rows.data
    assert contexts_of(asked)["asked"].texts == tuple(str(row) for row in rows)
