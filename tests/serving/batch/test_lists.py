"""Lists of many users: those that the service gives one who asks."""

from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import ray.cloudpickle
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.lists import ORIGINS
from coldray.core.errors import ConfigError, DataFormatError, UnknownIdError
from coldray.data.dataset import keep_entries
from coldray.data.sources.sample import sample_dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.registry import model_type
from coldray.serving.batch import lists as batch_lists
from coldray.serving.batch.lists import BatchLists, Counts
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query
from contracts.lists import places_of


@pytest.fixture(scope="module")
def bundle(bundle):
    """Return the bundle with five new items."""
    known = Engine(bundle)
    records = {f"new-{place}": known.attributes(bundle.item_ids[place]) for place in range(0, 50, 10)}
    kinds = bundle.encoder.kinds
    return bundle.add_items(
        {item: {name: record[name] for name in kinds if name in record} for item, record in records.items()}
    )


@pytest.fixture(scope="module")
def engine(bundle):
    return Engine(bundle)


@pytest.fixture(scope="module")
def rated():
    """Return a bundle of a model that reads ratings."""
    kind = model_type("rating_svd")
    sample = sample_dataset(0, 120, 90)
    clicks = sample.interactions
    values = np.random.default_rng(0).integers(1, 6, clicks.nnz).astype(np.float32)
    dataset = replace(sample, ratings=sp.csr_array((values, clicks.indices, clicks.indptr), shape=clicks.shape))
    return fit_bundle(kind(kind.config_type()), dataset, FeatureEncoder(FeatureConfig()), {})


def rows_of(histories, **columns):
    """Return rows of users in an order that mixes them; a user without an item is a row with none."""
    rows = [(user, item) for user, items in histories.items() for item in items or [None]]
    order = np.random.default_rng(0).permutation(len(rows))
    users, items = zip(*[rows[place] for place in order], strict=True)
    return pl.DataFrame(
        {"user_id": users, "item_id": items}, schema={"user_id": pl.String, "item_id": pl.String}, **columns
    )


def made(lists, rows):
    counts = Counts()
    tables = list(lists.of_histories(rows, counts))
    return {row["user_id"]: row for row in pl.concat(tables).iter_rows(named=True)}, counts


@pytest.fixture(scope="module")
def cold(engine):
    return [item for item in engine.ids if engine.is_cold(item)]


@pytest.mark.parametrize("kind", ["all", "warm", "cold", "named"])
@settings(max_examples=40)
@given(data=st.data())
def test_lists_are_those_of_the_service_for_one_who_asks(bundle, engine, cold, kind, data):
    ids = engine.ids
    candidates = kind if kind != "named" else (ids[3], *cold[:2], ids[70], ids[5])
    known = st.lists(st.sampled_from(ids), max_size=12, unique=True)
    histories = data.draw(st.dictionaries(st.text("xyz", min_size=1, max_size=4), known, min_size=1, max_size=8))
    k = data.draw(st.integers(1, len(ids) + 2))
    found, counts = made(BatchLists.of(bundle, k=k, candidates=candidates), rows_of(histories))
    assert list(found) == sorted(histories)
    for user, items in histories.items():
        (answer,) = engine.answer([Query(k=len(ids), history=dict.fromkeys(items), candidates=candidates)])
        of_item = {place.item: place.score for place in answer.places}
        listed, scores = found[user]["items"], found[user]["scores"]
        assert scores == pytest.approx([place.score for place in answer.places[:k]], rel=1e-5, abs=1e-6)
        # Sums in another order: items that score alike but for rounding may change places.
        assert scores == pytest.approx([of_item[item] for item in listed], rel=1e-5, abs=1e-6)
        assert len(set(listed)) == len(listed)
        assert found[user]["path"] == answer.path
    assert counts.users == len(histories) == sum(getattr(counts, path) for path in ORIGINS)
    assert counts.popularity == sum(not items for items in histories.values())
    assert (counts.unknown_items, counts.without_user) == (0, 0)


def test_seen_items_may_be_kept(bundle):
    ids = bundle.item_ids.tolist()
    histories = {"a": ids[:30], "b": ids[40:45], "c": []}
    found, _ = made(BatchLists.of(bundle, k=len(ids), exclude_seen=False), rows_of(histories))
    for user, items in histories.items():
        row = sp.csr_array(np.isin(bundle.item_ids, items).astype(np.float32)[None])
        scores = bundle.model.score(row, np.arange(len(ids)))[0]
        if not items:
            scores = np.log1p(np.bincount(bundle.interactions.indices, minlength=len(ids)))
        order = np.argsort(-scores, kind="stable")
        assert found[user]["scores"] == pytest.approx(scores[order].tolist(), rel=1e-5, abs=1e-6)
        assert sorted(found[user]["items"]) == sorted(ids)


def test_a_list_of_new_items_alone_is_called_so_when_seen_items_are_kept_too(bundle, cold, engine):
    warm = next(item for item in engine.ids if not engine.is_cold(item))
    histories = {"a": [warm], "b": []}
    for exclude, path in ((True, "attributes"), (False, "history")):
        lists = BatchLists.of(bundle, k=3, exclude_seen=exclude, candidates=(warm, cold[0]))
        found, counts = made(lists, rows_of(histories))
        assert (found["a"]["path"], found["b"]["path"]) == (path, "popularity")
        assert (getattr(counts, path), counts.popularity) == (1, 1)


def test_what_is_not_known_is_counted_and_left_out(bundle):
    known = bundle.item_ids.tolist()[:2]
    rows = pl.DataFrame(
        {
            "user_id": ["a", "a", "a", "b", "b", None, None, "c", "a"],
            "item_id": [known[0], known[1], "unknown", "unknown", "unknown 2", known[0], None, None, known[0]],
        }
    )
    found, counts = made(BatchLists.of(bundle, k=4), rows)
    alone, _ = made(BatchLists.of(bundle, k=4), rows_of({"a": known}))
    assert found["a"] == alone["a"]
    assert found["b"] == {**found["c"], "user_id": "b"}
    assert found["b"]["items"] == [place.item for place in bundle.most_clicked(4)]
    assert counts == Counts(users=3, history=1, popularity=2, unknown_items=3, without_user=2)
    counts.add(Counts(users=1, attributes=5))
    assert (counts.users, counts.attributes, counts.unknown_items) == (4, 5, 3)


def test_blanks_around_ids_are_left_out_and_told_when_two_users_become_one(bundle):
    known = bundle.item_ids.tolist()[:3]
    rows = pl.DataFrame(
        {
            "user_id": ["a", " a", "a\u200b", "b", "b ", " ", ""],
            "item_id": [known[0], f"{known[1]} ", known[2], f"\t{known[0]}", " unknown", known[0], known[1]],
        }
    )
    found, counts = made(BatchLists.of(bundle, k=4), rows)
    plain, _ = made(BatchLists.of(bundle, k=4), rows_of({"a": known, "b": known[:1]}))
    assert found == plain
    assert counts == Counts(users=2, history=2, unknown_items=1, without_user=2, blanks=7, merged_users=3)


def test_a_part_without_users_is_a_table_of_the_same_columns(bundle):
    lists = BatchLists.of(bundle, k=4)
    (empty,) = lists.of_histories(rows_of({"a": []}).head(0), Counts())
    (one,) = lists.of_histories(rows_of({"a": []}), Counts())
    assert empty.height == 0
    assert empty.schema == one.schema == {
        "user_id": pl.String, "items": pl.List(pl.String), "scores": pl.List(pl.Float32), "path": pl.String
    }  # fmt: skip


def test_long_lists_of_many_users_come_in_several_tables(bundle, monkeypatch):
    ids = bundle.item_ids.tolist()
    rows = rows_of({f"u{number}": ids[number : number + 3] for number in range(11)})
    lists = BatchLists.of(bundle, k=7)
    (whole,) = lists.of_histories(rows, Counts())
    monkeypatch.setattr(batch_lists, "_LISTED_CELLS", 30)
    tables = list(lists.of_histories(rows, Counts()))
    assert [table.height for table in tables] == [4, 4, 3]
    parts = pl.concat(tables)
    assert parts.drop("scores").equals(whole.drop("scores"))
    assert parts["scores"].explode().to_numpy() == pytest.approx(whole["scores"].explode().to_numpy(), rel=1e-6)


def test_ratings_are_read_by_a_model_that_reads_them(rated):
    ids, engine = rated.item_ids.tolist(), Engine(rated)
    rows = pl.DataFrame(
        {
            "user_id": ["a", "a", "a", "a", "b", "a"],
            "item_id": [ids[0], ids[1], ids[2], ids[1], ids[0], ids[0]],
            "rating": [1.0, 5.0, None, 2.0, None, float("nan")],
        },
        schema_overrides={"rating": pl.Float32},
    )
    found, _ = made(BatchLists.of(rated, k=6), rows)
    for user, history in {"a": {ids[0]: 1.0, ids[1]: 3.5, ids[2]: None}, "b": {ids[0]: None}}.items():
        (answer,) = engine.answer([Query(k=6, history=history)])
        assert found[user]["items"] == [place.item for place in answer.places]
        assert found[user]["scores"] == pytest.approx([place.score for place in answer.places], rel=1e-5)
    with pytest.raises(DataFormatError, match="6 ratings of the histories are beyond"):
        made(BatchLists.of(rated, k=6), rows.with_columns(rating=pl.lit(float("inf"), pl.Float32)))
    plain, _ = made(BatchLists.of(rated, k=6), rows.drop("rating"))
    (answer,) = engine.answer([Query(k=6, history=dict.fromkeys(ids[:3]))])
    assert plain["a"]["scores"] == pytest.approx([place.score for place in answer.places], rel=1e-5)


def test_ratings_do_not_reach_a_model_of_clicks(bundle):
    rows = rows_of({"a": bundle.item_ids.tolist()[:3]})
    lists = BatchLists.of(bundle, k=5)
    assert made(lists, rows.with_columns(rating=pl.lit(4.0, pl.Float32)))[0] == made(lists, rows)[0]


def test_ids_of_another_kind_are_refused(bundle):
    lists = BatchLists.of(bundle, k=5)
    lists.check_ids(pa.schema({"user_id": pa.int64(), "item_id": pa.large_string()}))
    with pytest.raises(DataFormatError, match=r"are integers, those of the model strings\. .* such as 'item-0001'"):
        lists.check_ids(pa.schema({"user_id": pa.large_string(), "item_id": pa.int64()}))


def test_candidates_that_are_not_there(bundle, engine):
    with pytest.raises(UnknownIdError, match="2 of the 3 candidates are no items of the model; the first is 'x'"):
        BatchLists.of(bundle, k=5, candidates=(engine.ids[0], "x", "y"))
    with pytest.raises(ConfigError, match="no item to list"):
        BatchLists.of(bundle, k=5, candidates=())


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # torch does not write to it either
def test_lists_travel_without_the_bundle_and_workers_share_their_arrays(rated, bundle):
    for one in (rated, bundle):
        lists, buffers = BatchLists.of(one, k=3), []
        state = ray.cloudpickle.dumps(lists, protocol=5, buffer_callback=buffers.append)
        copy = ray.cloudpickle.loads(state, buffers=[memoryview(bytes(buffer)) for buffer in buffers])
        rows = rows_of({"a": one.item_ids.tolist()[:4], "b": []})
        assert made(copy, rows)[0] == made(lists, rows)[0]
        large = sum(buffer.raw().nbytes for buffer in buffers)
        assert large >= sum(array.nbytes for array in one.model.state().values()) / 3
        assert len(state) < 20_000


@pytest.fixture(scope="module")
def unclicked():
    """Return a dataset in which nobody has clicked every fifth item."""
    sample = sample_dataset(0, 120, 90)
    clicks = sample.interactions
    kept = keep_entries(clicks, clicks.indices % 5 != 0)
    return replace(sample, interactions=kept)


@pytest.mark.parametrize("name", ["ease", "svd", "als", "item_knn", "user_knn"])
def test_a_model_of_clicks_alone_lists_no_item_without_any_unless_it_is_named(unclicked, name):
    kind = model_type(name)
    bundle = fit_bundle(kind(kind.config_type()), unclicked, FeatureEncoder(FeatureConfig()), {})
    cold = set(unclicked.item_ids.tolist()) - set(unclicked.item_ids[unclicked.clicked_items].tolist())
    n_items, engine = unclicked.n_items, Engine(bundle)
    assert len(cold) >= 18
    history = unclicked.item_ids[[1, 2, 3]].tolist()
    lists, _ = made(BatchLists.of(bundle, k=n_items), rows_of({"a": history, "b": []}))
    answers = engine.answer([Query(k=n_items, history=dict.fromkeys(history)), Query(k=n_items)])
    (found,) = places_of(bundle, [history], n_items)
    listed = [*lists.values(), {"items": [place.item for place in found]}]
    listed += [{"items": [place.item for place in answer.places]} for answer in answers]
    listed.append({"items": [place.item for place in bundle.most_clicked(n_items)]})
    for one in listed:
        assert one["items"]
        assert cold.isdisjoint(one["items"])
    named = tuple(sorted(cold))[:3]
    (answer,) = engine.answer([Query(k=5, history=dict.fromkeys(history), candidates=named)])
    assert {place.item for place in answer.places} == set(named)
    assert engine.knows_item(named[0])
    assert engine.is_cold(named[0])


@pytest.mark.parametrize("name", ["kernel_align", "marec", "content_knn"])
def test_a_model_of_attributes_lists_items_that_nobody_clicked(unclicked, name):
    kind = model_type(name)
    bundle = fit_bundle(kind(kind.config_type()), unclicked, FeatureEncoder(FeatureConfig()), {})
    history = unclicked.item_ids[[1, 2, 3]].tolist()
    (answer,) = Engine(bundle).answer([Query(k=unclicked.n_items, history=dict.fromkeys(history))])
    lists, _ = made(BatchLists.of(bundle, k=unclicked.n_items), rows_of({"a": history}))
    everything = set(unclicked.item_ids.tolist()) - set(history)
    assert {place.item for place in answer.places} == set(lists["a"]["items"]) == everything
    assert sum(place.cold for place in answer.places) == unclicked.n_unclicked_items
