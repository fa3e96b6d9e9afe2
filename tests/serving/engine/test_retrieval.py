"""Lists by an index of vectors: those of all scores, whatever is asked, and where there is no index."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from coldray.data.sources.sample import sample_dataset
from coldray.models.linalg import vector_index
from coldray.serving.engine import retrieval
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Condition, Query
from coldray.serving.engine.retrieval import Retrieval
from coldray.serving.exploration.explore import ExplorationConfig
from coldray.serving.live.model import LiveModel, ModelVersion
from contracts.networks import one_thread, small_bundle  # noqa: F401

N_ITEMS = 800
INDICES = {"flat": {"index_from": 1}, "hnsw": {"index_from": 1, "hnsw_from": 1}}


@pytest.fixture(scope="module")
def dataset():
    return sample_dataset(0, 80, N_ITEMS)


@pytest.fixture(scope="module", params=["two_tower", "lightgcn"])
def bundle(dataset, one_thread, request):  # noqa: F811
    return small_bundle(dataset, request.param)


@pytest.fixture(scope="module")
def towers(dataset, one_thread):  # noqa: F811
    return small_bundle(dataset, "two_tower")


def made(bundle, **sizes):
    found = Retrieval(bundle, **sizes)
    found.wait()
    return found


def indexed(bundle, kind="flat", **state):
    """Return an engine that lists by an index, and none but those lists: it has no other scores."""
    engine = Engine(bundle, **state)
    engine.retrieval = made(bundle, **INDICES[kind])

    def refuse(histories):
        raise AssertionError("all items are scored")

    engine.scorer = refuse
    return engine


def assert_agree(found, expected):
    """Check that lists are the same but for items that score alike."""
    for one, other in zip(found, expected, strict=True):
        assert (one.path, one.history, one.exploration) == (other.path, other.history, other.exploration)
        scores = [place.score for place in other.places]
        assert [place.score for place in one.places] == pytest.approx(scores, rel=1e-5, abs=1e-6)
        gaps = np.abs(np.diff(scores)) > 1e-5
        if gaps.all():
            assert one.places == tuple(
                replace(place, score=mine.score) for place, mine in zip(other.places, one.places, strict=True)
            )


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


def test_lists_of_the_exact_index_are_those_of_all_scores(bundle):
    engine, plain, queries = indexed(bundle), Engine(bundle), queries_of(bundle)
    assert_agree(engine.answer(queries), plain.answer(queries))
    for query in queries:
        assert_agree(engine.answer([query]), plain.answer([query]))


def test_a_graph_finds_lists_of_the_best_items_too(bundle):
    engine, plain = indexed(bundle, "hnsw"), Engine(bundle)
    assert engine.retrieval.ready.index.kind == "hnsw"
    assert engine.retrieval.ready.recall >= 0.95
    queries = [Query(user_id=user) for user in bundle.user_ids.tolist()]
    pairs = zip(engine.answer(queries), plain.answer(queries), strict=True)
    shared = [{place.item for place in a.places} & {place.item for place in b.places} for a, b in pairs]
    assert np.mean([len(items) / 10 for items in shared]) >= 0.95


def test_how_lists_are_found_is_told_with_what_is_missed(towers, monkeypatch):
    assert Retrieval(towers).told == "no index is made: all items are scored"
    assert made(towers, **INDICES["flat"]).told.startswith(
        "flat index of 800 items, all vectors are looked at: 100.0% of"
    )
    found = made(towers, **INDICES["hnsw"])
    assert (
        f"hnsw index of 800 items, {found.ready.index.search_pool} vectors in view: {found.ready.recall:.1%} of"
        in found.told
    )
    monkeypatch.setattr(retrieval, "LEAST_RECALL", 1.1)
    assert made(towers, **INDICES["hnsw"]).told.startswith("an index would find ")


def test_a_search_keeps_as_many_vectors_in_view_as_it_takes(towers, monkeypatch):
    assert made(towers, **INDICES["hnsw"]).ready.index.search_pool in retrieval.POOLS
    monkeypatch.setattr(retrieval, "POOLS", (1, 30, 700))
    recalls = {}
    for wanted, pool in ((0.0, 1), (1.01, 700)):
        monkeypatch.setattr(retrieval, "WANTED_RECALL", wanted)
        monkeypatch.setattr(retrieval, "LEAST_RECALL", 0.0)
        ready = made(towers, **INDICES["hnsw"]).ready
        assert ready.index.search_pool == pool
        recalls[pool] = ready.recall
    assert recalls[1] <= recalls[700] == 1


def test_removed_items_and_what_a_user_did_since_are_left_out(bundle):
    user, items = bundle.user_ids[4].item(), bundle.item_ids.tolist()
    (before,) = Engine(bundle).answer([Query(user_id=user)])
    best = [place.item for place in before.places]
    state = {"removed": [best[0], *items[-5:]], "events": {user: {best[1]: None}, "newcomer": {items[8]: None}}}
    engine, plain = indexed(bundle, **state), Engine(bundle, **state)
    queries = [Query(user_id=user), Query(user_id="newcomer")]
    found = engine.answer(queries)
    assert_agree(found, plain.answer(queries))
    assert not {best[0], best[1]} & {place.item for place in found[0].places}


def test_what_needs_more_than_the_best_of_all_items_is_scored_as_before(towers):
    plain, engine = Engine(towers), Engine(towers)
    engine.retrieval = made(towers, **INDICES["flat"])
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


def test_items_that_come_later_are_found_beside_those_of_the_index(towers, store):
    live, plain = (LiveModel(towers, ModelVersion("m", "1"), store) for _ in range(2))
    live.retrieval = live.engine.retrieval = made(towers, **INDICES["flat"])
    for number, item in enumerate(towers.item_ids[::40].tolist()):
        known = live.engine.attributes(item)
        store.put_item(f"new-{number}", {name: known[name] for name in towers.encoder.kinds if name in known})
    for model in (live, plain):
        assert model.refresh()
    del live.engine.scorer
    # One of the history is new, so that it is by the items that came later too.
    queries = [Query(user_id=user) for user in towers.user_ids[:20].tolist()]
    queries += [Query(history={"new-1": None, "item-0007": None}, k=100)]
    found = live.engine.answer(queries)
    assert_agree(found, plain.engine.answer(queries))
    assert any(place.item.startswith("new-") and place.cold for answer in found for place in answer.places)


def test_where_items_are_tried_out_all_are_scored(towers, store):
    live = LiveModel(towers, ModelVersion("m", "1"), store, ExplorationConfig(method="linucb"))
    live.engine.retrieval = made(towers, **INDICES["flat"])
    live.engine.retrieval.ready = replace(live.engine.retrieval.ready, index=None)
    assert live.engine.answer([Query(user_id=towers.user_ids[0].item())])[0].exploration == "linucb"


def test_small_catalogues_and_models_without_vectors_have_no_index(dataset, towers):
    assert made(towers).ready is None
    assert made(towers, index_from=N_ITEMS + 1).ready is None
    assert made(towers, index_from=N_ITEMS).ready is not None
    popular = small_bundle(dataset, "ease")
    engine = Engine(popular)
    engine.retrieval = made(popular, index_from=1)
    assert engine.retrieval.ready is None
    queries = queries_of(popular)
    assert engine.answer(queries) == Engine(popular).answer(queries)


def test_an_index_that_finds_too_little_is_not_used(towers, monkeypatch, caplog):
    monkeypatch.setattr(retrieval, "LEAST_RECALL", 1.01)
    found = made(towers, **INDICES["hnsw"])
    assert found.ready is None
    assert "That is too little: lists are found by scoring all items" in caplog.text
    engine = Engine(towers)
    engine.retrieval = found
    queries = queries_of(towers)
    assert engine.answer(queries) == Engine(towers).answer(queries)


def test_an_index_that_does_not_fit_or_fails_leaves_the_lists_as_they_were(towers, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(vector_index, "LINKS", 1 << 60)
    assert made(towers, **INDICES["hnsw"]).ready is None
    assert "An index of 800 items" in caplog.text
    monkeypatch.undo()
    assert made(replace(towers, interactions=towers.interactions[:0]), **INDICES["flat"]).ready is None
    assert "There is no index; lists are found by scoring all items" in caplog.text
