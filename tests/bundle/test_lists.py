"""One maker of lists: bundle, MLflow model, service and batch job give the same ones, by scores and by an index."""

from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.bundle.io import load_bundle, save_bundle
from coldray.bundle.lists import ListMaker, Place
from coldray.bundle.pyfunc import BundleModel
from coldray.core.errors import ConfigError, UnknownIdError
from coldray.data.dataset import keep_entries
from coldray.data.signals import Reads
from coldray.data.sources.sample import sample_dataset
from coldray.models.linalg import vector_index
from coldray.serving.batch.lists import BatchLists, Counts
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Condition, Query
from coldray.serving.exploration.explore import ExplorationConfig
from coldray.serving.live.model import LiveModel, ModelVersion
from coldray.serving.live.store import Store
from contracts.lists import places_of
from contracts.networks import full_sample, one_thread, small_bundle  # noqa: F401

N_ITEMS, K = 800, 7
MODELS = {
    "clicks": ("ease", {}),
    "ratings": ("mf", {"n_factors": 4}),
    "ratings and order": ("text_graph", {"rating_embedding": True, "time_buckets": 3}),
    "index": ("two_tower", {}),
}


def indexed(bundle, kind="flat"):
    """Return a bundle whose lists are found by an index, though it is small."""
    fresh = replace(bundle)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_index, "_INDEX_FROM", 1)
        patch.setattr(vector_index, "HNSW_FROM", 1 if kind == "hnsw" else N_ITEMS + 1)
        assert fresh.lists_form.value == kind
    return fresh


def dataset_of(sample):
    """Return a dataset in which nobody has clicked every seventh item."""
    kept = sample.interactions.indices % 7 != 0
    parts = ("interactions", "ratings", "timestamps")
    return replace(sample, **{part: keep_entries(getattr(sample, part), kept) for part in parts})


@pytest.fixture(scope="module", params=MODELS)
def bundle(one_thread, request):  # noqa: F811
    name, parameters = MODELS[request.param]
    made = small_bundle(dataset_of(full_sample()), name, **parameters)
    return indexed(made) if request.param == "index" else made


def users_of(bundle):
    """Return some users with what the bundle has of them, one it does not know, and one of whom nothing is known."""
    known = {user: bundle.history(user) for user in bundle.user_ids.tolist()[::9]}
    stranger = list(known[bundle.user_ids[0].item()])[:3]
    if bundle.model.reads.ratings:
        stranger = dict(zip(stranger, (1.0, 5.0, 3.0), strict=True))
    return {**known, "stranger": stranger, "nobody": []}


def by_bundle(bundle, histories, candidates, blocked):
    """Return the lists of histories that are given: items, scores, and where they come from."""
    lists = bundle.lists(list(histories.values()), K, candidates=candidates, exclude=blocked)
    return [([place.item for place in places], [place.score for place in places], origin) for origin, places in lists]


def by_service(bundle, histories, candidates, blocked):
    queries = [
        Query(
            k=K,
            history=history if isinstance(history, dict) else dict.fromkeys(history),
            candidates=candidates,
            exclude=tuple(blocked),
        )
        for history in histories.values()
    ]
    return [shown(answer) for answer in Engine(bundle).answer(queries)]


def shown(answer):
    return [place.item for place in answer.places], [place.score for place in answer.places], answer.path


def by_job(bundle, histories, candidates, blocked):
    """Return the lists of the batch job, to which blocked items are those that are no candidates."""
    if blocked:
        every = bundle.item_ids[bundle.listed_items].tolist() if candidates == "all" else candidates
        candidates = tuple(item for item in every if item not in blocked)
    rows = [
        (user, item, history[item] if isinstance(history, dict) else None, place)
        for user, history in histories.items()
        for place, item in enumerate(history or [None])
    ]
    schema = {"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32, "timestamp": pl.Int64}
    (table,) = BatchLists.of(bundle, k=K, candidates=candidates).of_histories(
        pl.DataFrame(rows, schema, orient="row"), Counts()
    )
    found = {row["user_id"]: (row["items"], row["scores"], row["path"]) for row in table.iter_rows(named=True)}
    return [found[user] for user in histories]


def by_mlflow(bundle, column, values):
    model = BundleModel()
    model.bundle = bundle
    table = model.predict(None, pd.DataFrame({column: values}), {"k": K})
    parts = {row: part.sort_values("rank") for row, part in table.groupby("row")}
    return [
        (parts[row]["item"].tolist(), parts[row]["score"].tolist(), parts[row]["path"].iloc[0])
        for row in range(len(values))
    ]


def assert_same(found, expected):
    for (items, scores, origin), (others, wanted, source) in zip(found, expected, strict=True):
        assert (items, origin) == (others, source)
        assert scores == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("restricted", ["all", "blocked", "warm", "named", "named and blocked"])
def test_all_four_give_the_same_lists(bundle, restricted):
    items, histories = bundle.item_ids.tolist(), users_of(bundle)
    best = [place.item for place in places_of(bundle, [histories["stranger"]], 3)[0]]
    blocked = [best[0], *items[20:24]] if "blocked" in restricted else []
    candidates = tuple(bundle.item_ids[bundle.listed_items].tolist()[5:40]) if "named" in restricted else "all"
    candidates = restricted if restricted == "warm" else candidates
    expected = by_bundle(bundle, histories, candidates, blocked)
    assert_same(by_service(bundle, histories, candidates, blocked), expected)
    assert_same(by_job(bundle, histories, candidates, blocked), expected)
    assert [origin for _, _, origin in expected][-1] == "popularity"
    assert {origin for _, _, origin in expected[:-1]} == {"history"}
    assert not any(set(blocked) & set(listed) for listed, _, _ in expected)


@pytest.mark.parametrize("bundle", ["ratings and order", "index"], indirect=True)
def test_all_four_give_the_same_lists_of_items_without_clicks(bundle):
    histories = users_of(bundle)
    expected = by_bundle(bundle, histories, "cold", [])
    assert_same(by_service(bundle, histories, "cold", []), expected)
    assert_same(by_job(bundle, histories, "cold", []), expected)
    assert [origin for _, _, origin in expected] == ["attributes"] * (len(histories) - 1) + ["popularity"]


@pytest.mark.parametrize("bundle", ["clicks", "ratings"], indirect=True)
@pytest.mark.parametrize("named", [False, True])
def test_all_refuse_those_of_a_model_that_knows_clicks_alone(bundle, named):
    candidates = tuple(bundle.item_ids[:9].tolist()) if named else "cold"
    words = "2 of the 9 candidates have none, " if named else "cold items have none"
    with pytest.raises(ConfigError, match=f"knows items by their clicks alone, and {words}"):
        by_bundle(bundle, {"nobody": []}, candidates, [])
    with pytest.raises(ConfigError, match=words):
        Engine(bundle).check(Query(k=K, history={}, candidates=candidates))
    with pytest.raises(ConfigError, match=words):
        BatchLists.of(bundle, k=K, candidates=candidates)


def test_the_mlflow_model_gives_the_lists_of_the_bundle_and_of_the_service(bundle):
    histories, engine = users_of(bundle), Engine(bundle)
    assert_same(by_mlflow(bundle, "history", list(histories.values())), by_bundle(bundle, histories, "all", ()))
    users = [user for user in histories if user != "stranger"]
    expected = [shown(answer) for answer in engine.answer([Query(user_id=user, k=K) for user in users])]
    assert_same(by_mlflow(bundle, "user_id", users), expected)
    assert [origin for _, _, origin in expected] == ["model"] * (len(users) - 1) + ["popularity"]


def test_candidates_that_are_not_there(bundle):
    with pytest.raises(UnknownIdError, match="1 of the 2 candidates are no items of the model; the first is 'x'"):
        places_of(bundle, [[]], 3, candidates=(bundle.item_ids[0].item(), "x"))
    with pytest.raises(ConfigError, match="no item to list"):
        places_of(bundle, [[]], 3, candidates=())


@given(st.lists(st.lists(st.integers(0, 6), unique=True, max_size=7), max_size=5))
def test_histories_become_rows_of_ones(histories):
    maker = ListMaker(lambda rows: rows, np.arange(7, dtype=np.int32), np.ones(7, np.int64), Reads(), 1.0)
    found = maker.rows([maker.read(dict.fromkeys(items)) for items in histories])
    expected = np.zeros((len(histories), 7))
    for row, items in enumerate(histories):
        expected[row, items] = 1
    np.testing.assert_array_equal(found.toarray(), expected)


@given(st.lists(st.dictionaries(st.integers(0, 6), st.none() | st.integers(1, 5)), max_size=5))
def test_rows_hold_ratings_and_places_where_they_are_read(histories):
    maker = ListMaker(lambda rows: rows, np.arange(7, dtype=np.int32), np.ones(7, np.int64), Reads(True, True), 2.5)
    found = maker.rows([maker.read(history) for history in histories]).toarray()
    for row, history in enumerate(histories):
        for place, (item, rating) in enumerate(history.items(), start=1):
            assert found[row, item] == (2.5 if rating is None else rating) + 1j * place
    assert np.count_nonzero(found) == sum(map(len, histories))


# ---- by an index


@pytest.fixture(scope="module", params=["two_tower", "lightgcn"])
def large(one_thread, request):  # noqa: F811
    return small_bundle(sample_dataset(0, 80, N_ITEMS), request.param)


@pytest.fixture(scope="module")
def towers(one_thread):  # noqa: F811
    return small_bundle(sample_dataset(0, 80, N_ITEMS), "two_tower")


@pytest.fixture
def store():
    made = Store("sqlite://")
    yield made
    made.close()


def refuse(histories):
    raise AssertionError("all items are scored")


def searching(bundle, kind="flat", **state):
    """Return an engine that lists by an index, and none but those lists: it has no other scores."""
    engine = Engine(indexed(bundle, kind), **state)
    engine.maker = replace(engine.maker, scorer=refuse)
    return engine


def assert_agree(found, expected):
    """Check that lists are the same but for items that score alike."""
    for one, other in zip(found, expected, strict=True):
        assert (one.path, one.history, one.exploration) == (other.path, other.history, other.exploration)
        scores = [place.score for place in other.places]
        assert [place.score for place in one.places] == pytest.approx(scores, rel=1e-5, abs=1e-6)
        apart = np.abs(np.diff(scores, prepend=np.inf, append=-np.inf)) > 1e-5
        alone = apart[:-1] & apart[1:]
        alone[-1:] = False  # one that is not in the list may score as the last
        pairs = np.array([[mine.item, place.item] for mine, place in zip(one.places, other.places, strict=True)])
        assert (pairs[alone, 0] == pairs[alone, 1]).all()


def queries_of(bundle):
    users, items = bundle.user_ids.tolist(), bundle.item_ids.tolist()
    return [
        *(Query(user_id=user) for user in users[::7]),
        Query(history=dict.fromkeys(items[5:9]), k=25),
        Query(history={items[3]: 4.0}, k=1),
        Query(user_id=users[1], exclude=tuple(items[:30])),
        Query(user_id=users[2], diversity=0.5, k=5),
        Query(user_id=users[3], exclude=(items[0], items[0]), k=3),
    ]


def test_lists_of_the_exact_index_are_those_of_all_scores(large):
    engine, plain, queries = searching(large), Engine(large), queries_of(large)
    assert_agree(engine.answer(queries), plain.answer(queries))
    for query in queries:
        assert_agree(engine.answer([query]), plain.answer([query]))


def test_a_graph_finds_most_of_the_lists_and_they_are_those_of_all_who_ask(large):
    fresh = indexed(large, "hnsw")
    users = large.user_ids.tolist()
    histories = {user: large.history(user) for user in users}
    expected = by_bundle(fresh, histories, "all", ())
    assert_same(by_service(fresh, histories, "all", ()), expected)
    assert_same(by_job(fresh, histories, "all", ()), expected)
    exact = by_bundle(large, histories, "all", ())
    assert np.mean([len(set(a[0]) & set(b[0])) / K for a, b in zip(expected, exact, strict=True)]) >= 0.95


def test_removed_items_and_what_a_user_did_since_are_left_out(large):
    user, items = large.user_ids[4].item(), large.item_ids.tolist()
    (before,) = Engine(large).answer([Query(user_id=user)])
    best = [place.item for place in before.places]
    state = {"removed": [best[0], *items[-5:]], "events": {user: {best[1]: None}, "newcomer": {items[8]: None}}}
    engine, plain = searching(large, **state), Engine(large, **state)
    queries = [Query(user_id=user), Query(user_id="newcomer")]
    found = engine.answer(queries)
    assert_agree(found, plain.answer(queries))
    assert not {best[0], best[1]} & {place.item for place in found[0].places}


def test_what_needs_more_than_the_best_of_all_items_is_scored(towers):
    plain, engine = Engine(towers), Engine(indexed(towers))
    user, items = towers.user_ids[4].item(), towers.item_ids.tolist()
    (genre,) = engine.attributes(items[0])["genres"][:1]
    queries = [
        Query(user_id=user, candidates="cold"),
        Query(user_id=user, candidates=tuple(items[3:9])),
        Query(user_id=user, conditions={"genres": Condition(any=(genre,))}),
        Query(user_id=user, k=N_ITEMS),
        Query(user_id="nobody"),
        Query(user_id=user),
    ]
    assert_agree(engine.answer(queries), plain.answer(queries))
    for query in queries:
        assert_agree(engine.answer([query]), plain.answer([query]))


def test_the_form_of_a_list_does_not_depend_on_who_asks_at_the_same_time_or_has_asked_before(towers, monkeypatch):
    monkeypatch.setattr("coldray.bundle.lists._MOST_CANDIDATES", 100)
    engine, user = Engine(indexed(towers)), towers.user_ids[4].item()
    scored = []
    engine.maker = replace(engine.maker, scorer=lambda rows: scored.append(rows.shape[0]) or towers.model.score(
        rows, np.arange(N_ITEMS)))  # fmt: skip
    engine.answer([Query(user_id=user, candidates="warm", k=200), Query(user_id=user)])
    assert scored == [1]
    engine.answer([Query(user_id=user)])
    assert scored == [1]


def test_items_that_come_later_are_found_beside_those_of_the_index(towers, store):
    live, plain = (
        LiveModel(indexed(towers), ModelVersion("m", "1"), store),
        LiveModel(towers, ModelVersion("m", "1"), store),
    )
    for number, item in enumerate(towers.item_ids[::40].tolist()):
        known = live.engine.attributes(item)
        store.put_item(f"new-{number}", {name: known[name] for name in towers.encoder.kinds if name in known})
    for model in (live, plain):
        assert model.refresh()
    live.engine.maker = replace(live.engine.maker, scorer=refuse)
    # One of the history is new, so that it is by the items that came later too.
    queries = [Query(user_id=user) for user in towers.user_ids[:20].tolist()]
    queries += [Query(history={"new-1": None, "item-0007": None}, k=100)]
    found = live.engine.answer(queries)
    assert_agree(found, plain.engine.answer(queries))
    assert any(place.item.startswith("new-") and place.cold for answer in found for place in answer.places)


def test_where_items_are_tried_out_all_are_scored(towers, store):
    live = LiveModel(indexed(towers), ModelVersion("m", "1"), store, ExplorationConfig(method="linucb"))
    live.engine.maker = replace(live.engine.maker, index=object())
    assert live.engine.answer([Query(user_id=towers.user_ids[0].item())])[0].exploration == "linucb"


def test_an_index_travels_to_the_workers_of_the_job(towers):
    import ray.cloudpickle

    fresh = indexed(towers, "hnsw")
    lists = BatchLists.of(fresh, k=K)
    assert lists.index_bytes > 4 * N_ITEMS
    rows = pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": [*fresh.item_ids[:2].tolist(), None]})
    (here,), (there,) = (
        list(one.of_histories(rows, Counts())) for one in (lists, ray.cloudpickle.loads(ray.cloudpickle.dumps(lists)))
    )
    assert here.equals(there)
    assert BatchLists.of(fresh, k=K, candidates="warm").index_bytes == 0


def test_the_form_is_settled_once_and_told(towers, store, tmp_path, caplog):
    fresh = indexed(towers, "hnsw")
    form = fresh.lists_form
    assert form.told.startswith("lists=hnsw (approximate): An index of the vectors of 800 items finds the best. Loss")
    assert 0 <= form.loss <= 0.05
    assert BatchLists.of(fresh, k=K).form == LiveModel(fresh, ModelVersion("m", "1"), store).lists_told == form.told
    folder = save_bundle(replace(towers, manifest={"lists": vars(form)}), tmp_path / "bundle")
    assert load_bundle(folder).lists_form.value == "hnsw"
    assert caplog.text == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coldray.core.memory._available_bytes", lambda: 100)
        assert load_bundle(folder).index is None
    assert "Lists were to be made in the form lists=hnsw (approximate), and are in another: lists=exact" in caplog.text
    exact = load_bundle(save_bundle(replace(towers, manifest={"lists": vars(towers.lists_form)}), tmp_path / "exact"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_index, "_INDEX_FROM", 1)
        assert exact.index is None
        assert exact.lists_form == towers.lists_form


def test_places_end_where_a_list_does(towers):
    ids, cold = towers.item_ids.tolist(), towers.clicks == 0
    found = towers.places(np.array([3, 5, -1]), np.array([2.0, 1.0, -np.inf]))
    assert found == (Place(ids[3], 2.0, cold[3]), Place(ids[5], 1.0, cold[5]))
